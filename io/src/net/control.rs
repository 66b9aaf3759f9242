//! Control messages: what goes along with the bytes of a sendmsg(2) and a recvmsg(2), encoded and
//! decoded; and the options that turn them on, where socket2 has none.
//!
//! Descriptors that were received have an owner from the moment at which their message is decoded
//! ([`Messages::take`]), which is when the operation ends, whether somebody waits for it or not.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Descriptors in one message at the most (`SCM_MAX_FD`, unix(7)).
pub(crate) const FDS_MAX: usize = 253;

/// SCM_PIDFD: a descriptor that comes if SO_PASSPIDFD is set.
const SCM_PIDFD: libc::c_int = 4;

/// `struct cmsghdr`: a length, with itself, and two integers.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// Messages begin at multiples of this.
const ALIGN: usize = size_of::<usize>();

/// What a message takes whose data has `len` bytes (`CMSG_SPACE`).
pub(crate) const fn space(len: usize) -> usize {
    HEADER + len.next_multiple_of(ALIGN)
}

/// What goes along with the bytes of a message on a Unix socket: descriptors, and who sent it.
///
/// # Examples
///
/// ```
/// use coring::net::{Ancillary, UnixDatagram};
/// use coring::BufResult;
///
/// # coring::run(async {
/// let (ours, theirs) = UnixDatagram::pair()?;
/// let file = std::fs::File::open("/dev/null")?;
/// let BufResult(sent, _) = ours.send_msg("a file", None, Ancillary::new().fd(file)).await;
/// sent?;
/// let BufResult(received, buf) = theirs.recv_msg(Vec::with_capacity(16), 1).await;
/// let received = received?;
/// assert_eq!((&buf[..], received.ancillary.fds.len()), (&b"a file"[..], 1));
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Ancillary {
    /// Descriptors, in the order in which they were sent. What is received is close-on-exec, and
    /// closed with this unless it is taken out.
    pub fds: Vec<OwnedFd>,
    /// Who sent it.
    pub credentials: Option<Credentials>,
}

impl Ancillary {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            fds: Vec::new(),
            credentials: None,
        }
    }

    /// With one more descriptor. There may be 253 in a message.
    ///
    /// The receiver gets a descriptor of its own for what this one is open on. It moves in here,
    /// so that it is open for as long as the kernel may look at it, and comes back with the result;
    /// to keep another one at hand, `try_clone` it.
    #[must_use]
    pub fn fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.fds.push(fd.into());
        self
    }

    /// With credentials. The kernel checks them: others than one's own need privileges. It adds
    /// one's own by itself where the receiver wants any.
    #[must_use]
    pub const fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// As control messages.
    ///
    /// # Errors
    /// `InvalidInput` for too many descriptors.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let mut writer = Writer::default();
        if self.fds.len() > FDS_MAX {
            let text = format!(
                "{} descriptors in one message: {FDS_MAX} is the most",
                self.fds.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if !self.fds.is_empty() {
            let fds: Vec<u8> = self
                .fds
                .iter()
                .flat_map(|fd| fd.as_raw_fd().to_ne_bytes())
                .collect();
            writer.push(libc::SOL_SOCKET, libc::SCM_RIGHTS, &fds);
        }
        if let Some(Credentials { pid, uid, gid }) = self.credentials {
            let words = [pid.to_ne_bytes(), uid.to_ne_bytes(), gid.to_ne_bytes()];
            let data = words.as_flattened();
            writer.push(libc::SOL_SOCKET, libc::SCM_CREDENTIALS, data);
        }
        Ok(writer.0)
    }

    /// Room for control messages with `fds_max` descriptors and credentials.
    pub(crate) fn room(fds_max: usize) -> usize {
        space(fds_max.min(FDS_MAX) * size_of::<RawFd>()) + space(size_of::<libc::ucred>())
    }
}

/// A process: who sent a message, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The number of the process, in the receiver's namespace.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl Credentials {
    /// Those of this process.
    ///
    /// # Examples
    ///
    /// ```
    /// let own = coring::net::Credentials::own();
    /// assert_eq!(own.pid, std::process::id() as i32);
    /// ```
    pub fn own() -> Self {
        Self {
            pid: std::process::id() as i32,
            // SAFETY: these take nothing and cannot fail.
            uid: unsafe { libc::getuid() },
            // SAFETY: as above.
            gid: unsafe { libc::getgid() },
        }
    }

    fn decode(data: &[u8]) -> Option<Self> {
        Some(Self {
            pid: int(data, 0)?,
            uid: int(data, 4)? as u32,
            gid: int(data, 8)? as u32,
        })
    }
}

/// The process at the other end of a connection.
pub(super) fn peer_credentials(fd: &impl AsRawFd) -> io::Result<Credentials> {
    let mut cred = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut len = size_of_val(&cred) as libc::socklen_t;
    let (fd, out) = (fd.as_raw_fd(), (&raw mut cred).cast());
    // SAFETY: `out` has room for `len` bytes, which are a `ucred`, and outlives the call.
    let res = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, out, &mut len) };
    if res != 0 {
        return Err(io::Error::last_os_error());
    }
    let libc::ucred { pid, uid, gid } = cred;
    Ok(Credentials { pid, uid, gid })
}

/// A datagram that did not fit: inside an [`io::Error`] of kind
/// [`InvalidData`](io::ErrorKind::InvalidData). The buffer has its beginning.
///
/// # Examples
///
/// ```
/// use coring::net::{Truncated, UnixDatagram};
/// use coring::BufResult;
///
/// # coring::run(async {
/// let (ours, theirs) = UnixDatagram::pair()?;
/// ours.send("hello world").await.0?;
/// let BufResult(received, buf) = theirs.recv(Vec::with_capacity(5)).await;
/// let error = received.unwrap_err();
/// let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Truncated>());
/// assert_eq!(inner, Some(&Truncated { len: 5, truncated: 6 }));
/// assert_eq!(buf, b"hello");
/// # coring::ok(()) }).unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Bytes that are in the buffer.
    pub len: usize,
    /// Bytes that it had no room for.
    pub truncated: usize,
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { len, truncated } = self;
        let all = len + truncated;
        write!(
            f,
            "a datagram of {all} bytes was cut to {len}: more room is needed"
        )
    }
}

impl std::error::Error for Truncated {}

impl From<Truncated> for io::Error {
    fn from(truncated: Truncated) -> Self {
        Self::new(io::ErrorKind::InvalidData, truncated)
    }
}

/// Writes control messages, as sendmsg(2) takes them.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let begin = self.0.len();
        self.0.extend((HEADER + data.len()).to_ne_bytes());
        self.0.extend(level.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(data);
        self.0.resize(begin + space(data.len()), 0);
    }
}

/// Control messages that were received.
pub(crate) struct Messages {
    bytes: Box<[u8]>,
    /// How much of that the kernel wrote.
    len: usize,
    /// The kernel left something out: there was no room, or no descriptor could be made.
    pub(crate) truncated: bool,
    /// All descriptors that came.
    pub(crate) fds: Vec<OwnedFd>,
}

impl Messages {
    /// Takes the descriptors out of the first `len` of `bytes`.
    ///
    /// # Safety
    /// The kernel wrote these bytes in a recvmsg(2) that succeeded, and this is called once for
    /// them.
    pub(crate) unsafe fn take(bytes: Box<[u8]>, len: usize, flags: libc::c_int) -> Self {
        let mut messages = Self {
            len: len.min(bytes.len()),
            bytes,
            truncated: flags & libc::MSG_CTRUNC != 0,
            fds: Vec::new(),
        };
        let mut fds = Vec::new();
        for (level, kind, data) in messages.iter() {
            let whose = match (level, kind) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => &mut fds,
                // Somebody has asked for one, but not of us: it is closed below.
                (libc::SOL_SOCKET, SCM_PIDFD) => &mut Vec::new(),
                _ => continue,
            };
            for fd in data.chunks_exact(size_of::<RawFd>()) {
                let fd = int(fd, 0).unwrap_or(-1);
                if fd >= 0 {
                    // SAFETY: the kernel made this descriptor for whoever received the message,
                    // and by this function's contract nobody else takes it.
                    whose.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        messages.fds = fds;
        messages
    }

    /// Level, type and data of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
        decode(&self.bytes[..self.len])
    }

    /// What a Unix socket gives; and whether something is missing. Descriptors past `fds_max` are
    /// closed.
    pub(crate) fn into_ancillary(mut self, fds_max: usize) -> (Ancillary, bool) {
        let truncated = self.truncated || self.fds.len() > fds_max;
        let mut fds = std::mem::take(&mut self.fds);
        fds.truncate(fds_max);
        let credentials = self
            .iter()
            .filter(|&(level, kind, _)| (level, kind) == (libc::SOL_SOCKET, libc::SCM_CREDENTIALS))
            .find_map(|(_, _, data)| Credentials::decode(data));
        (Ancillary { fds, credentials }, truncated)
    }
}

/// Level, type and data of each of the messages in `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> impl Iterator<Item = (libc::c_int, libc::c_int, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(*rest.first_chunk()?);
        let level = int(rest, size_of::<usize>())?;
        let kind = int(rest, size_of::<usize>() + size_of::<libc::c_int>())?;
        let data = rest.get(HEADER..len.min(rest.len()))?;
        rest = rest.get(space(data.len())..).unwrap_or_default();
        Some((level, kind, data))
    })
}

/// An integer in the kernel's order of bytes.
pub(crate) fn int(data: &[u8], at: usize) -> Option<libc::c_int> {
    let bytes = data.get(at..)?.first_chunk()?;
    Some(libc::c_int::from_ne_bytes(*bytes))
}

/// Sets an option for which socket2 has no function.
pub(crate) fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &[libc::c_int],
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of_val(value) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes, which is what there is, and the descriptor is borrowed.
    let set = unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The number of an interface, which the kernel knows scopes by.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, "an interface has a NUL inside");
    let text = CString::new(name).map_err(invalid)?;
    // SAFETY: a text that ends with a NUL.
    match unsafe { libc::if_nametoindex(text.as_ptr()) } {
        0 => {
            let error = io::Error::last_os_error();
            let text = format!("there is no interface `{name}`: {error}");
            Err(io::Error::new(error.kind(), text))
        }
        index => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: Vec<u8>) -> Messages {
        let len = bytes.len();
        // SAFETY: no descriptors are in there.
        unsafe { Messages::take(bytes.into(), len, 0) }
    }

    #[test]
    fn written_messages_are_those_that_libc_reads() {
        let mut writer = Writer::default();
        writer.push(1, 2, b"abcde");
        writer.push(3, 4, &[7; 8]);
        assert_eq!(writer.0.len(), space(5) + space(8));
        // SAFETY: arithmetic.
        let (space_5, len_5) = unsafe { (libc::CMSG_SPACE(5), libc::CMSG_LEN(5)) };
        assert_eq!(space(5), space_5 as usize);
        assert_eq!(writer.0[..8], (len_5 as usize).to_ne_bytes());
        let messages = decoded(writer.0);
        let all: Vec<_> = messages.iter().collect();
        assert_eq!(all, [(1, 2, &b"abcde"[..]), (3, 4, &[7; 8])]);
    }

    #[test]
    fn messages_that_were_cut_are_read_to_where_they_end() {
        let mut writer = Writer::default();
        writer.push(1, 2, b"abcdefgh");
        for len in 0..writer.0.len() {
            let messages = decoded(writer.0[..len].to_vec());
            let all: Vec<_> = messages.iter().collect();
            if len < HEADER {
                assert!(all.is_empty());
            } else {
                assert_eq!(all, [(1, 2, &b"abcdefgh"[..len - HEADER])]);
            }
        }
        // A length that is no length.
        let mut wrong = writer.0.clone();
        wrong[..8].copy_from_slice(&3_usize.to_ne_bytes());
        assert_eq!(decoded(wrong).iter().count(), 0);
        let mut long = writer.0;
        long[..8].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(decoded(long).iter().count(), 1);
    }

    #[test]
    fn descriptors_above_the_limit_are_refused_before_they_are_sent() {
        let fd = || std::fs::File::open("/dev/null").expect("it is there");
        let mut ancillary = Ancillary::new();
        for _ in 0..FDS_MAX {
            ancillary = ancillary.fd(fd());
        }
        assert_eq!(
            ancillary.encode().expect("as many as may be").len(),
            space(4 * FDS_MAX)
        );
        let error = ancillary.fd(fd()).encode().expect_err("one too many");
        assert!(error.to_string().contains("254"), "{error}");
    }
}
