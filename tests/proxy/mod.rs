//! A proxy that delays and cuts, by a seed: in threads of its own, with std's sockets.
//!
//! ```text
//!   who connects ── there ──▶ Proxy ──▶ target        each way: pieces of random sizes, at times
//!                ◀── back ───       ◀──               a delay; at one byte of one way the cut
//! ```

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::{MS, reset};

/// How often a thread that waits looks whether the other one has cut.
const STEP: Duration = Duration::from_millis(5);

/// How long what was passed on may take to arrive, before a reset.
const STEPS_MAX: usize = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Both ends read to an end, as if the other one had closed.
    End,
    /// Both ends are reset, once what was passed on that way has arrived.
    Reset,
}

/// After so many bytes of one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) way: Way,
    pub(crate) at: usize,
    pub(crate) how: How,
}

pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    goes_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Proxy {
    /// Passes on so many connections, one after the other. One that is to be cut waits for
    /// [`go_on`](Self::go_on).
    pub(crate) fn start(
        target: SocketAddr,
        seed: u64,
        cut: Option<Cut>,
        connections: usize,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let (goes_on, may_go_on) = channel();
        let thread = thread::spawn(move || {
            for i in 0..connections {
                let (client, _) = listener.accept().expect("a client");
                let server = TcpStream::connect(target).expect("it listens");
                if cut.is_some() && may_go_on.recv().is_err() {
                    return; // The test has failed.
                }
                pass_on(client, server, seed + i as u64, cut);
            }
        });
        Self {
            addr,
            goes_on,
            thread,
        }
    }

    pub(crate) fn go_on(&self) {
        self.goes_on.send(()).expect("it waits");
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn join(self) {
        self.thread.join().expect("it passes on");
    }
}

fn pass_on(client: TcpStream, server: TcpStream, seed: u64, cut: Option<Cut>) {
    for socket in [&client, &server] {
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(STEP)).expect("a socket");
        socket.set_write_timeout(Some(STEP)).expect("a socket");
    }
    let (is_cut, is_reset) = (AtomicBool::new(false), AtomicBool::new(false));
    let pump = |from, to, way, salt| Pump {
        from,
        to,
        random: fastrand::Rng::with_seed(seed * 2 + salt),
        cut: cut.filter(|cut| cut.way == way),
        is_cut: &is_cut,
        is_reset: &is_reset,
    };
    let there = pump(&client, &server, Way::There, 0);
    let back = pump(&server, &client, Way::Back, 1);
    thread::scope(|scope| {
        scope.spawn(|| back.run());
        there.run();
    });
    if is_reset.load(SeqCst) {
        reset(client);
        reset(server);
    }
}

struct Pump<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    random: fastrand::Rng,
    cut: Option<Cut>,
    is_cut: &'a AtomicBool,
    is_reset: &'a AtomicBool,
}

impl Pump<'_> {
    fn run(mut self) {
        let mut buf = vec![0; 100_000];
        let mut passed = 0;
        while !self.is_cut.load(SeqCst) {
            let most = [10, 5_000, 100_000][self.random.usize(..3)];
            let mut most = self.random.usize(1..=most);
            if let Some(cut) = self.cut {
                if passed == cut.at {
                    return self.cut(cut.how);
                }
                most = most.min(cut.at - passed);
            }
            let n = match self.from.read(&mut buf[..most]) {
                Ok(0) => return drop(self.to.shutdown(Shutdown::Write)),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                // Reset: the other end hears of it as it would without a proxy.
                Err(_) => return drop(self.to.shutdown(Shutdown::Both)),
            };
            if self.random.u8(..16) == 0 {
                thread::park_timeout(MS * self.random.u32(1..4));
            }
            if !self.write(&buf[..n]) {
                break;
            }
            passed += n;
        }
        if !self.is_reset.load(SeqCst) {
            self.discard();
        }
    }

    /// Gives whether all of it was written.
    fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.is_cut.load(SeqCst) {
            match self.to.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        bytes.is_empty()
    }

    fn cut(&mut self, how: How) {
        if how == How::Reset {
            for step in 0.. {
                if has_arrived(self.to) {
                    break;
                }
                assert!(step < STEPS_MAX, "nobody acknowledges it");
                thread::park_timeout(MS);
            }
            self.is_reset.store(true, SeqCst);
            return self.is_cut.store(true, SeqCst);
        }
        let _ = self.to.shutdown(Shutdown::Write);
        let _ = self.from.shutdown(Shutdown::Write);
        self.is_cut.store(true, SeqCst);
        self.discard();
    }

    /// Has whoever still writes write to the end, so that nobody is reset.
    fn discard(&mut self) {
        let mut buf = vec![0; 100_000];
        while !self.is_reset.load(SeqCst) {
            match self.from.read(&mut buf) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

fn has_arrived(socket: &TcpStream) -> bool {
    let mut left: libc::c_int = 0;
    // SAFETY: the kernel writes one number.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    asked != 0 || left == 0
}
