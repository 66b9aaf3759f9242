//! Peers behind a network that drops, refuses and goes away: the errors are the documented ones, a
//! limit ends what would wait for ever, and no byte is lost or comes twice.
//!
//! The peers are in a network of their own (`namespaces`), which takes root and nftables. What a
//! proxy does to a connection is in `cuts.rs`.

#![cfg(not(miri))]

mod common;
mod namespaces;

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::mem::replace;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use common::*;
use coring::net::{Keepalive, TcpStream, UdpSocket, lookup_host};
use coring::{Partial, Stats, create_task, is_timed_out, now, open_connection, wait_for};
use namespaces::{FAR_V4, FAR_V6, apart, forbid, hits, in_namespaces, lift, set_hosts, set_sysctl};
use socket2::SockRef;

/// Long enough for what is near, and short for who waits.
const LIMIT: Duration = Duration::from_millis(60);
const SECOND: Duration = Duration::from_secs(1);

const V4_AND_V6: [IpAddr; 2] = [IpAddr::V4(FAR_V4), IpAddr::V6(FAR_V6)];

/// Runs a thread that blocks, without holding up the loop.
async fn off_the_loop<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(job);
    until(|| thread.is_finished()).await;
    thread.join().expect("it does its job")
}

/// Whether the other end has all that was sent: its kernel, not its program.
fn all_has_arrived(socket: &std::net::TcpStream) -> bool {
    let mut left: libc::c_int = 0;
    // SAFETY: the kernel writes one number.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
    assert_eq!(asked, 0);
    left == 0
}

/// Closes a socket without a word to its peer, as a host does that loses its power.
fn lose_power(socket: std::net::TcpStream) {
    let repair: libc::c_int = 1;
    // SAFETY: the kernel reads one number.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const repair).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn connect_to_a_silent_host_ends_at_its_limit_and_leaves_nothing() {
    let test = "connect_to_a_silent_host_ends_at_its_limit_and_leaves_nothing";
    apart(test, |world, peer| {
        world.run(async {
            for addr in V4_AND_V6 {
                let (_listener, addr) = peer.listen(addr);
                peer.forbid("meta l4proto tcp counter drop");
                let fds = open_fds();
                for _ in 0..3 {
                    let begin = now();
                    let error = error_of(wait_for(TcpStream::connect(addr), LIMIT).await);
                    assert!(is_time_out(&error), "{error:?}");
                    assert!(now() - begin >= LIMIT);
                    turn().await;
                    assert_eq!(open_fds(), fds);
                    assert_eq!(Stats::current().in_flight, 0);
                }
                let error = error_of(wait_for(open_connection(addr), LIMIT).await);
                assert!(is_time_out(&error), "{error:?}");
                // One that is dropped.
                {
                    let mut connect = Box::pin(TcpStream::connect(addr));
                    assert!(poll_once(&mut connect).await.is_pending());
                    turn().await;
                }
                turn().await;
                assert_eq!(open_fds(), fds);
                assert!(peer.hits() >= 5, "{} SYNs", peer.hits());
                peer.lift();
                TcpStream::connect(addr).await.expect("it answers again");
            }
        });
    });
}

/// The kernel's own patience: an error of its own, which is nobody's limit.
#[test]
fn connect_without_a_limit_ends_when_the_kernel_gives_up() {
    let test = "connect_without_a_limit_ends_when_the_kernel_gives_up";
    apart(test, move |world, peer| {
        if let Err(error) = set_sysctl("ipv4/tcp_syn_retries", 1) {
            return skip(test, &format!("tcp_syn_retries cannot be set: {error}"));
        }
        world.run(async {
            let (_listener, addr) = peer.listen(FAR_V4);
            peer.forbid("meta l4proto tcp counter drop");
            let error = error_of(wait_for(TcpStream::connect(addr), PATIENCE).await);
            assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
            assert!(!is_timed_out(&error), "{error:?}");
            assert!(peer.hits() >= 2, "it tries again");
        });
    });
}

#[test]
fn connect_that_is_refused_on_the_way_says_how() {
    let test = "connect_that_is_refused_on_the_way_says_how";
    apart(test, |world, peer| {
        world.run(async {
            for (verdict, errno) in [
                ("reject with tcp reset", libc::ECONNREFUSED),
                ("reject with icmpx port-unreachable", libc::ECONNREFUSED),
                ("reject with icmpx host-unreachable", libc::EHOSTUNREACH),
            ] {
                for addr in V4_AND_V6 {
                    let (_listener, addr) = peer.listen(addr);
                    peer.lift();
                    peer.forbid(format!("meta l4proto tcp counter {verdict}"));
                    let connect = wait_for(TcpStream::connect(addr), PATIENCE);
                    let error = error_of(connect.await);
                    assert_eq!(error.raw_os_error(), Some(errno), "{verdict}, {addr}");
                    if addr.is_ipv6() {
                        continue; // The kernel tries once more before it believes ICMPv6.
                    }
                    let connect = wait_for(open_connection(addr), PATIENCE);
                    let error = error_of(connect.await);
                    assert_eq!(error.raw_os_error(), Some(errno), "{verdict}, {addr}");
                }
            }
            assert_eq!(Stats::current().in_flight, 0);
        });
    });
}

#[test]
fn read_of_a_peer_that_is_cut_off_times_out_and_goes_on_without_loss() {
    const TOTAL: usize = 8 << 20;
    const PIECE: usize = 50_000;
    let test = "read_of_a_peer_that_is_cut_off_times_out_and_goes_on_without_loss";
    apart(test, |world, peer| {
        world.run(async {
            let (ours, mut theirs) = peer.connected().await;
            let (mut reader, writer) = ours.into_streams();
            let sender = thread::spawn(move || {
                for at in (0..TOTAL).step_by(16 << 10) {
                    theirs
                        .write_all(&pattern(at, 16 << 10))
                        .expect("it is connected");
                }
            });
            let (mut all, mut limits) = (Vec::new(), 0);
            for goes_on_at in [TOTAL / 4, TOTAL / 2, TOTAL] {
                while all.len() < goes_on_at {
                    let n = PIECE.min(TOTAL - all.len());
                    let read = wait_for(reader.readexactly(n), PATIENCE).await;
                    all.extend_from_slice(&read.expect("it gets through"));
                }
                if all.len() == TOTAL {
                    break;
                }
                let counted = hits();
                forbid("meta l4proto tcp counter drop");
                while limits % 4 != 3 {
                    match wait_for(reader.readexactly(PIECE), LIMIT).await {
                        Ok(bytes) => all.extend_from_slice(&bytes), // Was here already.
                        Err(error) => {
                            assert!(is_time_out(&error), "{error:?}");
                            limits += 1;
                        }
                    }
                    assert!(all.len() < TOTAL, "nothing was dropped");
                }
                limits += 1;
                assert!(hits() > counted);
                lift();
            }
            assert!(all == pattern(0, TOTAL), "other bytes");
            assert!(reader.read(1).await.expect("the end").is_empty());
            until(|| sender.is_finished()).await;
            sender.join().expect("it has sent");
            drop((reader, writer));
        });
    });
}

#[test]
fn writer_into_a_black_hole_is_bounded_and_loses_nothing() {
    const PIECE: usize = 10_000;
    const HIGH_WATER: usize = 64 * 1024;
    let test = "writer_into_a_black_hole_is_bounded_and_loses_nothing";
    apart(test, |world, peer| {
        world.run(async {
            let (ours, mut theirs) = peer.connected().await;
            let (reader, mut writer) = ours.into_streams();
            writer.write(pattern(0, PIECE));
            writer.flush().await.expect("it is connected");
            peer.forbid("meta l4proto tcp counter drop");
            let (mut sent, mut limits) = (PIECE, 0);
            while limits == 0 {
                writer.write(pattern(sent, PIECE));
                sent += PIECE;
                match wait_for(writer.drain(), LIMIT).await {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(is_time_out(&error), "{error:?}");
                        limits += 1;
                    }
                }
                assert!(writer.buffered() <= HIGH_WATER + PIECE);
                assert!(sent < 64 << 20, "somebody takes it");
            }
            let held = writer.buffered();
            for _ in 0..3 {
                let error = error_of(wait_for(writer.drain(), LIMIT).await);
                assert!(is_time_out(&error), "{error:?}");
                assert_eq!(writer.buffered(), held);
            }
            assert!(peer.hits() > 0);
            let receives = thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).map(|_| all)
            });
            peer.lift();
            writer.write(pattern(sent, PIECE));
            sent += PIECE;
            writer.write_eof();
            let flushed = wait_for(writer.flush(), PATIENCE).await;
            flushed.expect("it gets through");
            until(|| receives.is_finished()).await;
            let all = receives.join().expect("it reads").expect("to the end");
            assert!(all == pattern(0, sent), "{} of {sent}", all.len());
            drop((reader, writer));
        });
    });
}

#[test]
fn write_into_a_black_hole_says_what_was_taken_and_goes_on_behind_it() {
    const TOTAL: usize = 16 << 20;
    let test = "write_into_a_black_hole_says_what_was_taken_and_goes_on_behind_it";
    apart(test, |world, peer| {
        world.run(async {
            let (mut ours, mut theirs) = peer.connected().await;
            peer.forbid("meta l4proto tcp counter drop");
            let write = wait_for(ours.write_all(pattern(0, TOTAL)), LIMIT).await;
            let error = error_of(write.0);
            assert!(is_time_out(&error), "{error:?}");
            let partial = error.get_ref().and_then(|inner| inner.downcast_ref());
            let taken = partial.map_or(0, |partial: &Partial| partial.transferred);
            assert!(0 < taken && taken < TOTAL, "{taken}");
            assert_eq!(write.1.len(), TOTAL);
            // Nothing more is taken meanwhile.
            let write = wait_for(ours.write_all(pattern(taken, TOTAL - taken)), LIMIT).await;
            assert!(
                error_of(write.0)
                    .get_ref()
                    .is_none_or(|inner| !inner.is::<Partial>())
            );
            peer.lift();
            let receives = thread::spawn(move || {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).map(|_| all)
            });
            let write = wait_for(ours.write_all(pattern(taken, TOTAL - taken)), PATIENCE).await;
            write.0.expect("it gets through");
            drop(ours);
            until(|| receives.is_finished()).await;
            let all = receives.join().expect("it reads").expect("to the end");
            assert!(all == pattern(0, TOTAL), "{} of {TOTAL}", all.len());
        });
    });
}

#[test]
fn reset_by_the_network_comes_behind_what_had_arrived() {
    const ARRIVED: usize = 40_000;
    let test = "reset_by_the_network_comes_behind_what_had_arrived";
    apart(test, |world, peer| {
        world.run(async {
            let (ours, mut theirs) = peer.connected().await;
            let (mut reader, mut writer) = ours.into_streams();
            theirs
                .write_all(&pattern(0, ARRIVED))
                .expect("it is connected");
            until(|| all_has_arrived(&theirs)).await;
            peer.forbid("meta l4proto tcp counter reject with tcp reset");
            writer.write("x");
            writer.flush().await.expect("the kernel takes it");
            until(|| peer.hits() > 0).await;
            let read = reader.readexactly(ARRIVED).await;
            assert!(read.expect("it had arrived")[..] == pattern(0, ARRIVED));
            for _ in 0..2 {
                let error = error_of(reader.read(1).await);
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            }
            writer.write("more");
            let error = error_of(writer.flush().await);
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    });
}

#[test]
fn reset_by_the_network_in_the_middle_leaves_a_beginning() {
    let test = "reset_by_the_network_in_the_middle_leaves_a_beginning";
    apart(test, |world, peer| {
        world.run(async {
            let (ours, mut theirs) = peer.connected().await;
            let (mut reader, mut writer) = ours.into_streams();
            let sender = thread::spawn(move || {
                let mut sent = 0;
                while theirs.write_all(&pattern(sent, 10_000)).is_ok() {
                    sent += 10_000;
                }
            });
            let (mut all, mut cut) = (Vec::new(), false);
            let error = loop {
                match wait_for(reader.read(1 << 16), PATIENCE).await {
                    Ok(bytes) => {
                        assert!(!bytes.is_empty(), "no end");
                        all.extend_from_slice(&bytes);
                    }
                    Err(error) => break error,
                }
                if all.len() > 1 << 20 && !replace(&mut cut, true) {
                    // What acknowledges these is answered with resets.
                    peer.forbid("meta l4proto tcp counter reject with tcp reset");
                }
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error:?}");
            assert!(all == pattern(0, all.len()), "other bytes");
            writer.write("more");
            let error = error_of(writer.flush().await);
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            peer.lift(); // Now the peer hears that there is nobody.
            until(|| sender.is_finished()).await;
            sender.join().expect("it fails");
        });
    });
}

/// Soft errors of a connection: TCP tries again.
#[test]
fn unreachable_in_the_middle_is_waited_out() {
    let test = "unreachable_in_the_middle_is_waited_out";
    apart(test, |world, peer| {
        world.run(async {
            let (ours, mut theirs) = peer.connected().await;
            let (mut reader, mut writer) = ours.into_streams();
            peer.forbid("meta l4proto tcp counter reject with icmpx host-unreachable");
            writer.write("hello");
            writer.flush().await.expect("the kernel takes it");
            until(|| peer.hits() > 0).await;
            let limited = wait_for(reader.read(1), LIMIT).await;
            assert!(is_time_out(&error_of(limited)));
            peer.lift();
            let echoes = off_the_loop(move || {
                let mut bytes = [0; 5];
                theirs.read_exact(&mut bytes).expect("it comes");
                theirs.write_all(&bytes).expect("it is connected");
                theirs
            });
            let theirs = echoes.await;
            assert_eq!(&reader.readexactly(5).await.expect("an echo")[..], b"hello");
            drop(theirs);
        });
    });
}

/// A peer that is gone, and nobody says so: what the kernel is told to look for finds it.
#[test]
fn half_open_connection_ends_by_keepalive_and_by_user_timeout() {
    let test = "half_open_connection_ends_by_keepalive_and_by_user_timeout";
    apart(test, |world, peer| {
        world.run(async {
            let (mut idle, their_idle) = peer.connected().await;
            let keepalive = Keepalive::new(SECOND).interval(SECOND).retries(1);
            idle.set_keepalive(Some(keepalive)).expect("a socket");
            let (busy, their_busy) = peer.connected().await;
            SockRef::from(&busy)
                .set_tcp_user_timeout(Some(SECOND / 2))
                .expect("a socket");
            let (mut reader, mut writer) = busy.into_streams();
            writer.write("are you there?");
            writer.flush().await.expect("it is connected");
            until(|| their_busy.peek(&mut [0; 14]).is_ok_and(|n| n == 14)).await;
            peer.forbid("meta l4proto tcp counter drop");
            writer.write("and now?");
            writer.flush().await.expect("the kernel takes it");
            let waits = create_task(async move {
                let read = wait_for(reader.readline(), PATIENCE).await;
                let first = error_of(read);
                let again = error_of(reader.readline().await);
                (first, again)
            });
            let read = wait_for(idle.read(Vec::with_capacity(1)), PATIENCE).await;
            let error = error_of(read.0);
            assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error:?}");
            assert!(!is_timed_out(&error), "it is no limit of ours");
            let (first, again) = waits.await;
            assert_eq!(first.raw_os_error(), Some(libc::ETIMEDOUT), "{first:?}");
            assert_eq!(again.raw_os_error(), Some(libc::ETIMEDOUT), "{again:?}");
            writer.write("hello?");
            let error = error_of(writer.flush().await);
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            drop((their_idle, their_busy));
        });
    });
}

/// The peer's host loses its power, and starts again: it knows nothing of the connection.
#[test]
fn peer_that_has_started_again_resets() {
    let test = "peer_that_has_started_again_resets";
    apart(test, |world, peer| {
        world.run(async {
            let (mut ours, mut theirs) = peer.connected().await;
            theirs.write_all(b"hello").expect("it is connected");
            until(|| all_has_arrived(&theirs)).await;
            lose_power(theirs);
            assert_eq!(ours.read(Vec::with_capacity(9)).await.1, b"hello");
            let silence = wait_for(ours.read(Vec::with_capacity(9)), LIMIT).await;
            assert!(is_time_out(&error_of(silence.0)), "nobody says anything");
            ours.write_all("hello?")
                .await
                .0
                .expect("the kernel takes it");
            let read = wait_for(ours.read(Vec::with_capacity(9)), PATIENCE).await;
            assert_eq!(error_of(read.0).kind(), ErrorKind::ConnectionReset);
            let error = error_of(ours.write_all("hello?").await.0);
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    });
}

/// The peer's whole network is deleted, and the wire with it.
#[test]
fn peer_whose_network_is_gone_ends_by_keepalive_and_by_user_timeout() {
    let test = "peer_whose_network_is_gone_ends_by_keepalive_and_by_user_timeout";
    apart(test, |world, peer| {
        world.run(async {
            let (idle, their_idle) = peer.connected().await;
            let keepalive = Keepalive::new(SECOND).interval(SECOND).retries(1);
            idle.set_keepalive(Some(keepalive)).expect("a socket");
            let (mut busy, their_busy) = peer.connected().await;
            SockRef::from(&busy)
                .set_tcp_user_timeout(Some(SECOND / 2))
                .expect("a socket");
            lose_power(their_idle);
            lose_power(their_busy);
            peer.vanish();
            // The kernel does it later.
            let wires = || std::fs::read_to_string("/proc/thread-self/net/dev");
            until(|| !wires().expect("/proc is mounted").contains("near:")).await;
            busy.write_all("are you there?")
                .await
                .0
                .expect("the kernel takes it");
            for mut stream in [busy, idle] {
                let read = wait_for(stream.read(Vec::with_capacity(1)), PATIENCE).await;
                let error = error_of(read.0);
                assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT), "{error:?}");
                let error = error_of(stream.write_all("hello?").await.0);
                assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            }
        });
    });
}

/// A test in a process of its own, so that names are looked up by threads that see its hosts.
#[test]
fn family_that_is_dropped_is_passed_over_after_the_delay() {
    const CHILD: &str = "CORING_TEST_FAMILY_CHILD";
    let test = "family_that_is_dropped_is_passed_over_after_the_delay";
    if std::env::var_os(CHILD).is_none() {
        let _world = World::uring(); // Nobody counts descriptors meanwhile.
        let own = std::env::current_exe().expect("this test");
        let status = std::process::Command::new(own)
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("it starts").success());
        return;
    }
    in_namespaces(
        test,
        libc::CLONE_NEWNET | libc::CLONE_NEWNS,
        move |world, peer| {
            let hosts = Temp::file(format!("{FAR_V4} far.test\n{FAR_V6} far.test\n").as_bytes());
            if let Err(error) = set_hosts(&hosts) {
                return skip(test, &format!("no hosts of its own: {error}"));
            }
            world.run(async {
                let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
                let listener = peer.run(move || std::net::TcpListener::bind(any));
                let listener = listener.expect("a free port");
                let port = listener.local_addr().expect("it is bound").port();
                let far = ("far.test", port);
                let addrs = lookup_host(far).await.expect("it is in the hosts");
                assert_eq!(addrs.len(), 2, "{addrs:?}");
                let first = addrs[0].ip();
                let (_reader, writer) = open_connection(far).await.expect("it listens");
                assert_eq!(peer_of(&writer), first);
                for dropped in V4_AND_V6 {
                    let family = if dropped.is_ipv4() { "ip" } else { "ip6" };
                    peer.forbid(format!(
                        "{family} daddr {dropped} tcp flags syn counter drop"
                    ));
                    let fds = open_fds();
                    let begin = now();
                    let connect = wait_for(open_connection(far), PATIENCE).await;
                    let took = now() - begin;
                    let (reader, writer) = connect.expect("the other family");
                    assert_ne!(peer_of(&writer), dropped);
                    let delay = Duration::from_millis(250);
                    assert_eq!(took >= delay, dropped == first, "{took:?}");
                    drop((reader, writer));
                    until(|| Stats::current().in_flight == 0).await;
                    assert_eq!(open_fds(), fds, "the one that was given up is closed");
                    peer.lift();
                }
                // One is dropped, the other refuses: the first may still come.
                drop(listener);
                peer.forbid(format!("ip daddr {FAR_V4} tcp flags syn counter drop"));
                let error = error_of(wait_for(open_connection(far), SECOND).await);
                assert!(is_time_out(&error), "{error:?}");
            });
        },
    );
}

fn peer_of(socket: &impl std::os::fd::AsFd) -> IpAddr {
    let addr = SockRef::from(socket).peer_addr().expect("it is connected");
    addr.as_socket().expect("an address").ip()
}

#[test]
fn datagrams_that_are_dropped_are_missing_and_no_others() {
    const SENT: usize = 300;
    let test = "datagrams_that_are_dropped_are_missing_and_no_others";
    apart(test, |world, peer| {
        world.run(async {
            let ours = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a free port");
            let theirs = peer.run(|| std::net::UdpSocket::bind((FAR_V4, 0)));
            let theirs = theirs.expect("a free port");
            ours.connect(theirs.local_addr().expect("it is bound"))
                .expect("it is near");
            ours.send("hello").await.0.expect("there is room");
            let (_, from) = theirs.recv_from(&mut [0; 9]).expect("a datagram");
            theirs.connect(from).expect("it is near");
            // Each third one.
            forbid("meta l4proto udp numgen inc mod 3 0 counter drop");
            let mut received = Vec::new();
            for i in 0..SENT {
                theirs.send(&pattern(i, 1_000)).expect("there is room");
                if i % 20 == 19 {
                    loop {
                        let limited = wait_for(ours.recv(Vec::with_capacity(2_000)), LIMIT).await;
                        match limited.0 {
                            Ok(_) => received.push(limited.1),
                            Err(error) => break assert!(is_time_out(&error), "{error:?}"),
                        }
                    }
                }
            }
            assert_eq!(hits(), SENT as u64 / 3);
            let expected: Vec<_> = (0..SENT)
                .filter(|i| i % 3 != 0)
                .map(|i| pattern(i, 1_000))
                .collect();
            assert!(received == expected, "{} came", received.len());
            // Refused: told to the next operation, once.
            lift();
            drop(theirs);
            ours.send("anybody?").await.0.expect("there is room");
            let error = error_of(wait_for(ours.recv(vec![0; 9]), PATIENCE).await.0);
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        });
    });
}
