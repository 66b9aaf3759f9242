//! Two networks with a wire between them, and rules for what gets through.
//!
//! ```text
//!   the test's thread                     the peer's thread
//!   near, NEAR_V4, NEAR_V6  ──── veth ────  far, FAR_V4, FAR_V6
//!   forbid, lift, hits                    peer.run(|| forbid(…))
//! ```
//!
//! They have no names and belong to the two threads: when these have ended, and the sockets are
//! closed, the kernel removes them, however a test ends. A socket stays in the network that it was
//! made in, whichever thread uses it. Other threads and programs are where whoever started them is.
//!
//! Rules are nftables', because that drops and rejects everywhere; netem, which would delay as well,
//! is not in every kernel.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream as StdStream};
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use coring::net::TcpStream;

use crate::common::{PATIENCE, World, skip};

/// Addresses that are for documentation alone, in networks that nobody else sees.
pub(crate) const FAR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// What a machine needs, and the Debian packages that have it.
const TOOLS: [(&str, &str); 2] = [("ip", "iproute2"), ("nft", "nftables")];

type Job = Box<dyn FnOnce() + Send>;

/// The other network.
pub(crate) struct Peer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    tid: libc::pid_t,
}

impl Peer {
    fn start() -> io::Result<Self> {
        let (jobs, wanted) = channel::<Job>();
        let (says, said) = channel();
        let thread = thread::spawn(move || {
            // SAFETY: it only says a number.
            let tid = unsafe { libc::gettid() };
            let own = own_network(libc::CLONE_NEWNET).map(|()| tid);
            if says.send(own).is_ok() {
                wanted.iter().for_each(|job| job());
            }
        });
        let tid = said.recv().expect("it says so")?;
        Ok(Self { jobs, thread, tid })
    }

    /// What `job` gives, which runs in the peer's network.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (gives, given): (Sender<T>, Receiver<T>) = channel();
        let job = Box::new(move || drop(gives.send(job())));
        self.jobs.send(job).expect("its thread lives");
        given.recv().expect("the job ends")
    }

    pub(crate) fn forbid(&self, rule: impl Into<String>) {
        let rule = rule.into();
        self.run(move || forbid(&rule));
    }

    pub(crate) fn lift(&self) {
        self.run(lift);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.run(hits)
    }

    pub(crate) fn listen(&self, addr: impl Into<std::net::IpAddr>) -> (TcpListener, SocketAddr) {
        let addr = SocketAddr::from((addr.into(), 0));
        let listener = self.run(move || TcpListener::bind(addr).expect("a free port"));
        let addr = listener.local_addr().expect("it is bound");
        (listener, addr)
    }

    /// A connection: our end, and the peer's, which blocks.
    pub(crate) async fn connected(&self) -> (TcpStream, StdStream) {
        let (listener, addr) = self.listen(FAR_V4);
        let ours = TcpStream::connect(addr).await.expect("it listens");
        let (theirs, _) = listener.accept().expect("it has come");
        theirs.set_read_timeout(Some(PATIENCE)).expect("a socket");
        (ours, theirs)
    }

    /// Ends the network, once its sockets are closed.
    pub(crate) fn vanish(self) {
        drop(self.jobs);
        self.thread.join().expect("its jobs were done");
    }
}

/// Runs a test in a network of its own, on a thread of its own; or says why it cannot.
pub(crate) fn apart(test: &'static str, body: impl FnOnce(&World, Peer) + Send + 'static) {
    in_namespaces(test, libc::CLONE_NEWNET, body);
}

/// [`apart`], with other namespaces of its own beside the network.
pub(crate) fn in_namespaces(
    test: &'static str,
    which: libc::c_int,
    body: impl FnOnce(&World, Peer) + Send + 'static,
) {
    // SAFETY: it only says a number.
    if unsafe { libc::geteuid() } != 0 {
        return skip(test, "not root, so no network of its own");
    }
    let test = thread::spawn(move || {
        // First of all: what the commands open is not to be seen in another test's count.
        let world = World::uring();
        for (tool, package) in TOOLS {
            if Command::new(tool).arg("-V").output().is_err() {
                return skip(test, &format!("no {tool} (of the package {package})"));
            }
        }
        match own_network(which).and_then(|()| wired()) {
            Ok(peer) => body(&world, peer),
            Err(error) => skip(test, &format!("no network of its own: {error}")),
        }
    });
    if let Err(panic) = test.join() {
        resume_unwind(panic);
    }
}

fn own_network(which: libc::c_int) -> io::Result<()> {
    // SAFETY: other threads stay where they are, and nothing that this one holds is lost.
    match unsafe { libc::unshare(which) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn wired() -> io::Result<Peer> {
    let peer = Peer::start()?;
    let near = format!("near address {}", mac(1));
    let far = format!("far address {} netns {}", mac(2), peer.tid);
    ip(&format!("link add {near} type veth peer name {far}"))?;
    configure("near", 1)?;
    peer.run(|| configure("far", 2))?;
    Ok(peer)
}

fn mac(host: u8) -> String {
    format!("02:00:00:00:00:{host:02}")
}

/// Addresses, and a table without rules.
fn configure(link: &str, host: u8) -> io::Result<()> {
    ip("link set lo up")?;
    ip(&format!("addr add 192.0.2.{host}/24 dev {link}"))?;
    ip(&format!("addr add 2001:db8::{host}/64 dev {link} nodad"))?;
    ip(&format!("link set {link} up"))?;
    // Nobody has to ask who has an address: the first question gets lost, which takes a second (M).
    let other = 3 - host;
    for addr in [format!("192.0.2.{other}"), format!("2001:db8::{other}")] {
        let mac = mac(other);
        ip(&format!(
            "neigh add {addr} lladdr {mac} dev {link} nud permanent"
        ))?;
    }
    nft("add table inet test")?;
    nft("add chain inet test in { type filter hook input priority 0; }")
}

fn ip(words: &str) -> io::Result<()> {
    output_of(Command::new("ip").args(words.split(' '))).map(drop)
}

fn nft(command: &str) -> io::Result<()> {
    output_of(Command::new("nft").arg(command)).map(drop)
}

/// Adds a rule, without what is to become of its packets: they are counted, and `verdict` follows.
pub(crate) fn forbid(rule: &str) {
    nft(&format!("add rule inet test in {rule}")).expect("the kernel takes the rule");
}

/// Takes all rules away.
pub(crate) fn lift() {
    nft("flush chain inet test in").expect("there are rules");
}

/// How many packets the rules with a `counter` have met.
pub(crate) fn hits() -> u64 {
    let rules = output_of(Command::new("nft").args(["list", "table", "inet", "test"]));
    let rules = rules.expect("the table is there");
    let counts = rules.split("counter packets ").skip(1);
    let count = |rest: &str| rest.split(' ').next()?.parse::<u64>().ok();
    counts.map(|rest| count(rest).expect("a number")).sum()
}

fn output_of(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?}: {why}")))
}

/// Has what the thread reads of `/etc/hosts` be this.
pub(crate) fn set_hosts(file: &std::path::Path) -> io::Result<()> {
    let mount = |words: &[&str]| output_of(Command::new("mount").args(words)).map(drop);
    mount(&["--make-rprivate", "/"])?;
    mount(&["--bind", &file.to_string_lossy(), "/etc/hosts"])
}

/// Writes a knob of the kernel that each network has of its own.
pub(crate) fn set_sysctl(name: &str, value: u32) -> io::Result<()> {
    let mut file = std::fs::File::create(format!("/proc/sys/net/{name}"))?;
    write!(file, "{value}")
}
