//! Names of hosts.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

use coring_runtime::{cancellable, checkpoint, shielded, to_thread};

use super::control::interface_index;

/// A host and a port, to be looked up by [`lookup_host`]: a text like `"localhost:8080"` or
/// `"[::1]:8080"`, a pair of both, or a [`SocketAddr`].
///
/// # Examples
///
/// ```
/// use coring::net::ToHost;
///
/// # fn main() -> std::io::Result<()> {
/// assert_eq!("localhost:8080".to_host()?, ("localhost".into(), 8080));
/// assert_eq!(("localhost", 8080).to_host()?, ("localhost".into(), 8080));
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no host with a port",
    note = "give a text like \"localhost:8080\", or a pair like `(\"localhost\", 8080)`"
)]
pub trait ToHost {
    /// The host and the port.
    ///
    /// # Errors
    /// `InvalidInput` if a text is not that.
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)>;

    /// The address, if it is one already.
    fn as_addr(&self) -> Option<SocketAddr> {
        None
    }
}

impl ToHost for SocketAddr {
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)> {
        Ok((self.ip().to_string().into(), self.port()))
    }

    fn as_addr(&self) -> Option<SocketAddr> {
        Some(*self)
    }
}

impl ToHost for str {
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)> {
        let wrong = |what| {
            let text = format!("`{self}` has {what}: expected HOST:PORT, like localhost:8080");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        let (host, port) = self.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        let port = port.parse().map_err(|_| wrong("no port from 0 to 65535"))?;
        if host.is_empty() {
            return Err(wrong("no host"));
        }
        if host.contains(':') && !host.starts_with('[') {
            return Err(wrong("colons in its host, which stand in brackets"));
        }
        Ok((host.into(), port))
    }
}

impl ToHost for String {
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)> {
        self.as_str().to_host()
    }
}

impl<S: AsRef<str>> ToHost for (S, u16) {
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)> {
        let host = self.0.as_ref();
        if host.is_empty() {
            let text = "an empty text is no host: expected one like localhost";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok((host.into(), self.1))
    }
}

impl<H: ToHost + ?Sized> ToHost for &H {
    fn to_host(&self) -> io::Result<(Cow<'_, str>, u16)> {
        (**self).to_host()
    }

    fn as_addr(&self) -> Option<SocketAddr> {
        (**self).as_addr()
    }
}

/// Gives the addresses of a host, in the order in which they should be tried; there is one at
/// least.
///
/// Addresses are themselves, at once, also those with a scope, like `"[fe80::1%eth0]:80"`. Names go
/// to getaddrinfo(3), which blocks, on a thread of [`to_thread`]'s pool; so they are what
/// `/etc/hosts`, DNS and `/etc/nsswitch.conf` make of them.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect. A request to stop, or a limit, ends
/// it at once; a thread that has begun goes on until getaddrinfo(3) returns, and what that gives
/// is dropped.
///
/// # Errors
/// `InvalidInput` for a text that is no host with a port; what getaddrinfo(3) gives, with the name;
/// ENODEV for a scope that is no interface's; if no thread can be made.
/// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coring::net::lookup_host;
/// use coring::wait_for;
///
/// # coring::run(async {
/// let addrs = wait_for(lookup_host("localhost:80"), Duration::from_secs(10)).await?;
/// assert!(addrs.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn lookup_host(host: impl ToHost) -> io::Result<Vec<SocketAddr>> {
    let addr = host.as_addr();
    let (host, port) = host.to_host()?;
    if let Some(addr) = addr.map_or_else(|| literal(&host, port), |addr| Ok(Some(addr)))? {
        checkpoint()?;
        return Ok(vec![addr]);
    }
    let host = host.into_owned();
    on_thread(move || {
        let failed = |kind, what| io::Error::new(kind, format!("`{host}`: {what}"));
        let addrs: Vec<_> = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| failed(error.kind(), error.to_string()))?
            .collect();
        if addrs.is_empty() {
            return Err(failed(io::ErrorKind::NotFound, "it has no address".into()));
        }
        Ok(addrs)
    })
    .await
}

/// An address that was given as one.
///
/// # Errors
/// `InvalidInput` for brackets around something else; for a scope that there is not.
fn literal(host: &str, port: u16) -> io::Result<Option<SocketAddr>> {
    let inside = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let addr = inside.unwrap_or(host);
    let (ip, scope) = match addr.split_once('%') {
        Some((ip, scope)) => (ip, Some(scope)),
        None => (addr, None),
    };
    if inside.is_none()
        && scope.is_none()
        && let Ok(ip) = ip.parse::<IpAddr>()
    {
        return Ok(Some((ip, port).into()));
    }
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        if inside.is_none() {
            return Ok(None);
        }
        let text = format!("`{host}` is no host: in brackets stands an address of IPv6");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    let scope = match scope {
        None => 0,
        Some(scope) => match scope.parse() {
            Ok(index) => index,
            Err(_) => interface_index(scope)?,
        },
    };
    Ok(Some(SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// Waits for `f` on another thread, but not when it is asked to stop.
async fn on_thread<T, F>(f: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    // A function that has begun cannot be stopped, so `to_thread` would wait for it. Behind a shield
    // it hears of no request; and dropped by `cancellable` it is taken back, or left to itself.
    cancellable(shielded(to_thread(move |_| f()))).await??
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use coring_runtime::{create_task, is_cancelled, yield_now};

    use super::*;

    #[test]
    fn function_that_runs_is_left_to_itself_when_its_waiter_is_told_to_stop() {
        let (begun, has_begun) = mpsc::channel();
        let (end, may_end) = mpsc::channel::<()>();
        let (dropped, was_dropped) = mpsc::channel();
        coring_runtime::run(async move {
            let task = create_task(on_thread(move || {
                begun.send(()).expect("somebody listens");
                may_end.recv().expect("it is told to end");
                Ok(SaysDropped(dropped))
            }));
            while has_begun.try_recv().is_err() {
                yield_now().await.expect("nobody cancels");
            }
            task.cancel();
            let Err(error) = task.await else {
                panic!("it cannot have ended");
            };
            assert!(is_cancelled(&error), "{error:?}");
            // The request was heard of once.
            yield_now().await.expect("nobody cancels");
            end.send(()).expect("it still runs");
        });
        let patience = Duration::from_secs(20);
        was_dropped.recv_timeout(patience).expect("by its thread");
    }

    struct SaysDropped(mpsc::Sender<()>);

    impl Drop for SaysDropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
}
