//! Real peers of our streams: asyncio with many bytes, curl, socat.

#![cfg(not(miri))]

mod common;

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use common::*;
use coring::{
    StreamReader, StreamWriter, create_task, open_connection, open_unix_connection, sleep,
    start_server, start_unix_server,
};

/// How many bytes go each way: 64 MiB, or 1 GiB where there is time for it.
fn bulk_bytes() -> usize {
    if std::env::var_os("CORING_LONG").is_some() {
        1 << 30
    } else {
        64 << 20
    }
}

fn started(test: &str, program: &mut Command) -> Option<Child> {
    let piped = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    match piped.spawn() {
        Ok(child) => Some(child),
        Err(error) => {
            skip(
                test,
                &format!("{:?} does not start: {error}", program.get_program()),
            );
            None
        }
    }
}

fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/").to_owned() + program);
    command
}

/// Has a command of the system, from its Debian package if it is missing and may be installed.
fn has(test: &str, command: &str, package: &str) -> bool {
    let lib = concat!(env!("CARGO_MANIFEST_DIR"), "/ci/lib.sh");
    let script = format!("source '{lib}' && package {command} {package} >&2");
    let installed = Command::new("bash").args(["-c", &script]).output();
    let here = installed.is_ok_and(|output| output.status.success());
    if !here {
        skip(
            test,
            &format!("there is no {command}, and none can be installed"),
        );
    }
    here
}

async fn output_of(child: Child) -> Output {
    let waits = thread::spawn(move || child.wait_with_output());
    while !waits.is_finished() {
        sleep(MS).await.expect("nobody cancels");
    }
    let output = waits.join().expect("it waits").expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    output
}

/// A cheap hash, good enough to find what is missing or in the wrong place.
#[derive(Default)]
struct Hash(u64, usize);

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0.rotate_left(7) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        self.1 += bytes.len();
    }
}

/// Echoes in bits, lazily at times, as asyncio's end does.
async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(3);
    loop {
        let most = [10, 5_000, 1 << 20][random.usize(..3)];
        let bytes = reader.read(most).await?;
        if bytes.is_empty() {
            writer.close();
            return writer.wait_closed().await;
        }
        match random.u8(..3) {
            0 => writer.write(&bytes[..]),
            1 => writer.write(bytes.to_vec()),
            _ => writer.write(bytes),
        }
        writer.drain().await?;
        if random.u8(..50) == 0 {
            sleep(MS).await?;
        }
    }
}

/// Bytes and hashes both ways: asyncio sends and compares what comes back.
#[test]
fn asyncio_client_gets_all_its_bytes_back() {
    let world = World::uring();
    world.run(async {
        let reports = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = reports.clone();
        let builder = coring::Server::builder().on_report(move |_| count.set(count.get() + 1));
        let server = builder
            .start("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens").to_string();
        let mut client = python("bulk.py");
        client.args(["client", &addr, &bulk_bytes().to_string()]);
        let Some(client) = started("asyncio_client_gets_all_its_bytes_back", &mut client) else {
            return;
        };
        let output = output_of(client).await;
        let text = String::from_utf8(output.stdout).expect("hashes");
        let (sent, received) = text.trim().split_once(' ').expect("two hashes");
        assert_eq!(sent, received);
        // The second connection was reset in the middle.
        server.shutdown(PATIENCE).await.expect("nobody cancels");
        assert!(reports.get() <= 1);
    });
}

/// Our end sends in every form and compares; asyncio echoes, slowly. Then resets, both ways.
#[test]
fn asyncio_server_gives_all_our_bytes_back() {
    let world = World::uring();
    world.run(async {
        let mut server = python("bulk.py");
        server.args(["server", "0"]);
        let Some(mut server) = started("asyncio_server_gives_all_our_bytes_back", &mut server)
        else {
            return;
        };
        let mut stdout = BufReader::new(server.stdout.take().expect("it is piped"));
        let mut addr = String::new();
        stdout.read_line(&mut addr).expect("it says where it is");
        let addr = addr.trim().to_owned();
        let (mut reader, mut writer) = open_connection(addr.as_str()).await.expect("it listens");
        let sender = create_task(async move {
            let mut random = fastrand::Rng::with_seed(5);
            let source: Vec<u8> = (0..4 << 20).map(|_| random.u8(..)).collect();
            let mut hash = Hash::default();
            while hash.1 < bulk_bytes() {
                let most = [2, 1_000, 30_000, 3 << 20][random.usize(..4)];
                let begin = random.usize(..1 << 20);
                let part = &source[begin..begin + random.usize(1..most)];
                hash.update(part);
                match random.u8(..3) {
                    0 => writer.write(part),
                    1 => writer.write(part.to_vec()),
                    _ => writer.write(coring::Lease::from(part.to_vec()).into_bytes()),
                }
                if random.bool() {
                    writer.drain().await.expect("it is connected");
                }
            }
            writer.write_eof();
            (hash, writer)
        });
        let mut received = Hash::default();
        loop {
            let bytes = reader.read(1 << 20).await.expect("it is connected");
            if bytes.is_empty() {
                break;
            }
            received.update(&bytes);
        }
        let (sent, writer) = sender.await;
        assert_eq!((sent.0, sent.1), (received.0, received.1));
        drop((reader, writer));
        let mut told = String::new();
        stdout.read_line(&mut told).expect("a hash");
        assert_eq!(told.trim().len(), 64);
        // Gone in the middle: what asyncio is about to send finds nobody.
        let (mut reader, mut writer) = open_connection(addr).await.expect("it listens");
        writer.write(vec![0; 8 << 20]);
        reader.readexactly(100).await.expect("it echoes");
        let socket = socket2::SockRef::from(&writer);
        socket
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("a socket");
        writer.abort();
        drop((reader, writer));
        let told = thread::spawn(move || {
            let mut told = String::new();
            stdout.read_line(&mut told).expect("a word");
            told
        });
        until(|| told.is_finished()).await;
        assert_eq!(told.join().expect("it reads"), "reset\n");
        drop(server.stdin.take());
        output_of(server).await;
    });
}

/// A small answer over HTTP, with what HTTP asks of a reader: lines, then as many bytes.
async fn answer(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    loop {
        let head = match reader.readuntil(b"\r\n\r\n").await {
            Ok(head) => head,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        };
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        if head.contains("expect: 100-continue") {
            writer.write("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = reader.readexactly(length).await?;
        writer.write(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        writer.write(body);
        writer.drain().await?;
    }
}

#[test]
fn curl_is_answered() {
    let world = World::uring();
    world.run(async {
        if !has("curl_is_answered", "curl", "curl") {
            return;
        }
        let server = start_server("127.0.0.1:0", answer)
            .await
            .expect("a free port");
        let url = format!("http://{}/", server.local_addr().expect("it listens"));
        let body: Vec<u8> = (0..3_000_000_u32)
            .map(|i| (i * 7 + i / 251) as u8)
            .collect();
        let file = Temp::file(&body);
        let data = format!("@{}", file.display());
        for (posted, requests) in [(false, 1), (true, 1), (true, 3)] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--max-time", "60", "--noproxy", "*"]);
            if posted {
                curl.args(["--data-binary", &data]);
            }
            curl.args(std::iter::repeat_n(&url, requests));
            let curl = started("curl_is_answered", &mut curl).expect("it is there");
            let output = output_of(curl).await;
            let expected = if posted {
                body.repeat(requests)
            } else {
                Vec::new()
            };
            assert!(output.stdout == expected, "{} bytes", output.stdout.len());
        }
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}

/// socat between two of our sockets, a Unix one and TCP: half-closes go through.
#[test]
fn socat_passes_all_on() {
    let world = World::uring();
    world.run(async {
        if !has("socat_passes_all_on", "socat", "socat") {
            return;
        }
        let server = start_server("127.0.0.1:0", echo)
            .await
            .expect("a free port");
        let addr = server.local_addr().expect("it listens");
        let path = Temp::new();
        let mut socat = Command::new("socat");
        socat.arg("-t60");
        socat.arg(format!("UNIX-LISTEN:{}", path.display()));
        socat.arg(format!("TCP:{addr}"));
        let socat = started("socat_passes_all_on", &mut socat).expect("it is there");
        until(|| path.exists()).await;
        let (mut reader, mut writer) = loop {
            // The file is there a moment before it listens.
            match open_unix_connection(&*path).await {
                Ok(streams) => break streams,
                Err(_) => sleep(MS).await.expect("nobody cancels"),
            }
        };
        let body: Vec<u8> = (0..3_000_000_u32)
            .map(|i| (i * 7 + i / 251) as u8)
            .collect();
        writer.write(body.clone());
        writer.write_eof();
        assert!(reader.read_to_end().await.expect("the echo") == body);
        drop((reader, writer));
        output_of(socat).await;
        server.shutdown(PATIENCE).await.expect("nobody cancels");
        // And into a server on a Unix socket.
        let server = start_unix_server(&*path, echo)
            .await
            .expect("socat has left it");
        let mut socat = Command::new("socat");
        // Half a second after the end of its input it would go, whatever is still to come.
        socat.args(["-t60", "-", &format!("UNIX-CONNECT:{}", path.display())]);
        let mut socat = started("socat_passes_all_on", &mut socat).expect("it is there");
        let mut stdin = socat.stdin.take().expect("it is piped");
        let sent = body.clone();
        let sends = thread::spawn(move || io::Write::write_all(&mut stdin, &sent));
        let output = output_of(socat).await;
        sends.join().expect("it sends").expect("socat takes it");
        assert!(output.stdout == body, "{} bytes", output.stdout.len());
        server.shutdown(PATIENCE).await.expect("nobody cancels");
    });
}
