//! The server as its clients see it, over TCP, and what it allocates.

#[path = "../../tests/counting/mod.rs"]
mod counting;

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use coring::net::{TcpListener, TcpStream};
use coring::{BufResult, IoBuf, Stats, create_task, now, ok, run, sleep, task_group, wait_for};
use counting::{Counting, allocations, live_bytes};

use crate::admin::Server;
use crate::{CLIENTS_MAX, Group, Shared, welcome};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(60);

/// Serves on this thread whoever comes.
fn start() -> io::Result<(SocketAddr, Shared)> {
    let mut listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let server = Rc::new(RefCell::new(Server::new(now(), addr.port())));
    let shared = server.clone();
    create_task(task_group(async move |g: Group| -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            welcome(&g, &server, stream);
        }
    }));
    ok((addr, shared))
}

struct Client {
    stream: TcpStream,
    buf: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        ok(Self {
            stream,
            buf: Vec::new(),
        })
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes.to_vec()).await.0
    }

    async fn expect(&mut self, reply: &[u8]) -> io::Result<()> {
        let buf = Vec::with_capacity(reply.len());
        let BufResult(read, buf) = wait_for(self.stream.read_exact(buf), PATIENCE).await;
        read?;
        assert_eq!(
            buf.escape_ascii().to_string(),
            reply.escape_ascii().to_string()
        );
        ok(())
    }

    async fn ask(&mut self, bytes: &[u8], reply: &[u8]) -> io::Result<()> {
        self.send(bytes).await?;
        self.expect(reply).await
    }

    /// As `ask`, without an allocation.
    async fn ask_again(&mut self, bytes: &'static [u8], reply: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await.0?;
        let buf = std::mem::take(&mut self.buf);
        let BufResult(read, buf) = self.stream.read_exact(buf.slice(..reply.len())).await;
        self.buf = buf.into_inner();
        assert_eq!(&self.buf[..reply.len()], reply);
        read
    }

    async fn expect_end(&mut self) -> io::Result<()> {
        let buf = Vec::with_capacity(1);
        let BufResult(read, _) = wait_for(self.stream.read(buf), PATIENCE).await;
        assert_eq!(read?, 0);
        ok(())
    }
}

#[test]
fn requests_allocate_nothing() {
    run(async {
        let (addr, _) = start()?;
        let mut client = Client::connect(addr).await?;
        client.buf = Vec::with_capacity(64);
        let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";
        let get = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        let both = b"GET k\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n";
        client.ask_again(b"SET n 100000\r\n", b"+OK\r\n").await?;
        let mut before = 0;
        // The first command that comes in two pieces makes a buffer for that, which is kept.
        for round in 0..6_000 {
            if round == 4_000 {
                before = allocations();
            }
            client.ask_again(set, b"+OK\r\n").await?;
            client.ask_again(get, b"$5\r\nvalue\r\n").await?;
            let n = 100_001 + round;
            let mut reply = *b"$5\r\nvalue\r\n:100000\r\n";
            let digits = &mut [0; 20];
            reply[12..18].copy_from_slice(crate::resp::decimal(n, digits));
            client.ask_again(both, &reply).await?;
        }
        assert_eq!(allocations() - before, 0);
        ok(())
    })
    .expect("no error");
}

#[test]
fn large_values_come_back_and_their_buffers_go() {
    run(async {
        let (addr, server) = start()?;
        let mut client = Client::connect(addr).await?;
        client.ask(b"PING\r\n", b"+PONG\r\n").await?;
        // But for what the runtime receives into, which is not the connection's.
        let live = || live_bytes() - ((Stats::current().buffers.total as i64) << 16);
        let before = live();
        let len = 9_000_001;
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let mut set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").into_bytes();
        set.extend_from_slice(&value);
        client.ask(&set, b"").await?;
        client.ask(b"\r\n", b"+OK\r\n").await?;
        let mut reply = format!("${len}\r\n").into_bytes();
        reply.extend_from_slice(&value);
        reply.extend_from_slice(b"\r\n");
        client.ask(b"GET k\r\n", &reply).await?;
        drop((value, set, reply));
        client.ask(b"DEL k\r\nPING\r\n", b":1\r\n+PONG\r\n").await?;
        assert!(live() - before < 100_000, "{}", live() - before);
        assert!(server.borrow().store.bytes() < 100_000);
        ok(())
    })
    .expect("no error");
}

/// Many requests for something large in one packet, by a client that does not read.
#[test]
fn replies_do_not_pile_up() {
    run(async {
        let (addr, _) = start()?;
        let mut client = Client::connect(addr).await?;
        let len = 1 << 20;
        let mut set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${len}\r\n").into_bytes();
        set.resize(set.len() + len, b'v');
        set.extend_from_slice(b"\r\n");
        client.ask(&set, b"+OK\r\n").await?;
        drop(set);
        let before = live_bytes();
        client.send(&b"GET k\r\n".repeat(1_000)).await?;
        let mut other = Client::connect(addr).await?;
        other.ask(b"PING\r\n", b"+PONG\r\n").await?;
        assert!(live_bytes() - before < 4 << 20, "{}", live_bytes() - before);
        let mut left = 1_000 * (len + 12);
        let mut buf = Vec::with_capacity(1 << 20);
        while left > 0 {
            let BufResult(read, back) = client.stream.read(buf).await;
            left -= read?;
            buf = back;
        }
        ok(())
    })
    .expect("no error");
}

/// Memory grows with what has come, never with what was announced.
#[test]
fn lengths_that_lie_cost_nothing() {
    run(async {
        let (addr, _) = start()?;
        let mut client = Client::connect(addr).await?;
        client.ask(b"PING\r\n", b"+PONG\r\n").await?;
        let before = live_bytes();
        client
            .send(b"*2147483647\r\n$3\r\nGET\r\n$536870912\r\nabc")
            .await?;
        let mut other = Client::connect(addr).await?;
        other.ask(b"PING\r\n", b"+PONG\r\n").await?;
        assert!(live_bytes() - before < 100_000, "{}", live_bytes() - before);
        ok(())
    })
    .expect("no error");
}

#[test]
fn broken_frames_end_their_connection_alone() {
    run(async {
        let (addr, _) = start()?;
        let mut other = Client::connect(addr).await?;
        let long = [&b"PING\r\n"[..], &[b'x'; 300_000]].concat();
        let cases: [(&[u8], &[u8]); 4] = [
            (b"PING\r\n*1\r\n$x\r\nPING\r\n", b"invalid bulk length"),
            (b"PING\r\n*x\r\n", b"invalid multibulk length"),
            (
                b"PING\r\n*1\r\n\xff\xfe\r\nPING\r\n",
                b"expected '$', got '\xff'",
            ),
            (&long, b"too big inline request"),
        ];
        for (frame, words) in cases {
            let mut client = Client::connect(addr).await?;
            other.ask(b"SET k v\r\n", b"+OK\r\n").await?;
            let reply = [b"+PONG\r\n-ERR Protocol error: ", words, b"\r\n"].concat();
            client.ask(frame, &reply).await?;
            client.expect_end().await?;
            other.ask(b"GET k\r\n", b"$1\r\nv\r\n").await?;
        }
        // QUIT is an end as well; so is half a command.
        let mut client = Client::connect(addr).await?;
        client.ask(b"QUIT\r\nPING\r\n", b"+OK\r\n").await?;
        client.expect_end().await?;
        let mut client = Client::connect(addr).await?;
        client.ask(b"PING\r\nPI", b"+PONG\r\n").await?;
        client.stream.shutdown(Shutdown::Write).await?;
        client.expect_end().await?;
        other.ask(b"GET k\r\n", b"$1\r\nv\r\n").await
    })
    .expect("no error");
}

#[test]
fn one_client_too_many_is_told_so() {
    run(async {
        let (addr, server) = start()?;
        server.borrow_mut().clients = CLIENTS_MAX - 1;
        let mut last = Client::connect(addr).await?;
        last.ask(b"PING\r\n", b"+PONG\r\n").await?;
        let mut refused = Client::connect(addr).await?;
        refused
            .expect(b"-ERR max number of clients reached\r\n")
            .await?;
        refused.expect_end().await?;
        // There is room again when one leaves.
        last.ask(b"QUIT\r\n", b"+OK\r\n").await?;
        last.expect_end().await?;
        drop(last);
        while server.borrow().clients >= CLIENTS_MAX {
            sleep(Duration::from_millis(1)).await?;
        }
        let mut next = Client::connect(addr).await?;
        next.ask(b"PING\r\n", b"+PONG\r\n").await
    })
    .expect("no error");
}
