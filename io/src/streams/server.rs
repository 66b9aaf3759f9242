//! Servers of streams.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::ready;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use coring_runtime::sync::Event;
use coring_runtime::{
    Failure, Task, TaskRef, checkpoint, create_task, is_cancelled, shielded, submit, yield_now,
};
use coring_timer::timeout;
use futures_util::FutureExt;
use slab::Slab;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{LIMIT_BYTES, StreamReader, StreamWriter};
use crate::net::send::elsewhere;
use crate::net::{
    Kind, Listener, SocketOptions, Stream, ToHost, ToUnixAddr, UnixListener, lookup_host,
};
use crate::ops::Turn;

/// For how long nothing is accepted when there are no descriptors or no memory left, unless a
/// connection ends: as asyncio's servers.
const PAUSE: Duration = Duration::from_secs(1);

/// Connections that one listener accepts before others have their turn.
const ACCEPTS_MAX: u32 = 32;

/// Listens on all addresses of a host, and calls `handler` for each connection, in a task of its own
/// (asyncio's `start_server`). Small writes go out at once (TCP_NODELAY). Port 0 is any that is free.
///
/// The handler gives nothing, or a `Result<(), E>`: an error is reported on stderr
/// ([`ServerBuilder::on_report`] has it otherwise), unless it is that of a cancellation. So is a panic,
/// which harms no other connection. A connection is closed when its reader and its writer are dropped,
/// after what was written.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
///
/// # Errors
/// `InvalidInput` for a text that is no host with a port; what [`lookup_host`] gives, socket(2),
/// bind(2) and listen(2), such as `AddrInUse`;
/// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use coring::{open_connection, start_server};
///
/// # coring::run(async {
/// let server = start_server("127.0.0.1:0", async |mut reader, mut writer| {
///     while !reader.at_eof() {
///         let line = reader.readline().await?;
///         writer.write(line);
///         writer.drain().await?;
///     }
///     coring::ok(())
/// }).await?;
/// let (mut reader, mut writer) = open_connection(server.local_addr()?.to_string()).await?;
/// writer.write("hello\n");
/// writer.write_eof();
/// assert_eq!(reader.read_to_end().await?, b"hello\n");
/// server.shutdown(Duration::from_secs(1)).await?;
/// # coring::ok(()) }).unwrap();
/// ```
pub async fn start_server<F, R>(host: impl ToHost, handler: F) -> io::Result<Server>
where
    F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: HandlerOutput + 'static,
{
    Server::builder().start(host, handler).await
}

/// [`start_server`] for a path, or a name, of this machine. A socket that nobody listens on any more
/// is taken over from an earlier server, which asyncio does with any; the file is removed when the
/// server closes, if it is still its own.
///
/// # Cancel safety
///
/// Cancel safe: dropping this before it completes has no effect.
///
/// # Errors
/// `InvalidInput` for a bad address; what socket(2), bind(2) and listen(2) give, such as `AddrInUse`
/// for a file that is no socket, or is somebody's; [`Cancelled`](coring_runtime::Cancelled) if it is
/// asked to stop, by a limit too.
pub async fn start_unix_server<F, R>(addr: impl ToUnixAddr, handler: F) -> io::Result<Server>
where
    F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: HandlerOutput + 'static,
{
    Server::builder().start_unix(addr, handler).await
}

/// What a handler gives: nothing, or a `Result<(), E>` with any [`Failure`].
#[diagnostic::on_unimplemented(
    message = "the handler of a server cannot give `{Self}`",
    note = "it gives nothing, or a `Result<(), E>` with an error that is a `coring::Failure`"
)]
pub trait HandlerOutput {
    /// The error, if it is one.
    fn error(&self) -> Option<&(dyn Error + 'static)>;
}

impl HandlerOutput for () {
    fn error(&self) -> Option<&(dyn Error + 'static)> {
        None
    }
}

impl<E: Failure> HandlerOutput for Result<(), E> {
    fn error(&self) -> Option<&(dyn Error + 'static)> {
        self.as_ref().err().map(Failure::as_error)
    }
}

/// What a server has to say, and nobody to say it to.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerReport<'a> {
    /// There are no descriptors, or no memory, for another connection: it is tried again in a
    /// second, or when a connection has ended.
    Paused(&'a io::Error),
    /// A listener has failed, and listens no more.
    Failed(&'a io::Error),
    /// A handler gave an error.
    #[non_exhaustive]
    Handler {
        /// Whose connection it was, if it came over the internet.
        peer: Option<SocketAddr>,
        /// What the handler gave.
        error: &'a (dyn Error + 'static),
    },
    /// A handler has panicked. (The hook for panics has been called, which by default writes the place
    /// to stderr.)
    #[non_exhaustive]
    Panicked {
        /// Whose connection it was, if it came over the internet.
        peer: Option<SocketAddr>,
        /// What the panic was raised with: a `&str` or a `String`, if by `panic!`.
        payload: &'a (dyn Any + Send),
    },
}

impl fmt::Display for ServerReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(error) => write!(f, "no connection can be accepted for now: {error}"),
            Self::Failed(error) => write!(f, "a listener has failed: {error}"),
            Self::Handler { peer, error } => {
                write!(f, "{} ended with an error: {error}", Whose(*peer))
            }
            Self::Panicked { peer, payload } => {
                write!(f, "{} ended with a panic", Whose(*peer))?;
                let text = payload.downcast_ref::<&str>().copied();
                let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
                text.map_or(Ok(()), |text| write!(f, ": {text}"))
            }
        }
    }
}

/// A connection, by its peer.
struct Whose(Option<SocketAddr>);

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => write!(f, "the connection of {peer}"),
            None => f.write_str("a connection"),
        }
    }
}

/// How a server is to be.
#[derive(Clone)]
pub struct ServerBuilder {
    connections_max: usize,
    limit: usize,
    options: SocketOptions,
    report: Rc<dyn Fn(ServerReport<'_>)>,
}

impl ServerBuilder {
    /// The most connections that are served at once. Others wait: some accepted, the rest with the
    /// kernel. By default there is no such limit. One whose handler has ended counts until what was
    /// written is sent.
    ///
    /// Those that wait have been served nothing. When the server closes, by whatever call, they are
    /// closed with what listened, and most peers see a reset.
    ///
    /// # Panics
    /// If it is 0.
    pub fn connections_max(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server of no connections");
        self.connections_max = connections;
        self
    }

    /// The limit of the readers: see [`StreamReader::set_limit`].
    ///
    /// # Panics
    /// If it is 0.
    pub fn limit(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a limit of no bytes");
        self.limit = bytes;
        self
    }

    /// How the listening sockets are made.
    pub fn options(mut self, options: &SocketOptions) -> Self {
        self.options = options.clone();
        self
    }

    /// Is called with what would be written to stderr.
    ///
    /// # Examples
    ///
    /// ```
    /// use coring::Server;
    /// use coring::streams::ServerReport;
    ///
    /// # let log = |_: String| {};
    /// let builder = Server::builder().on_report(move |report| match report {
    ///     // Peers that hang up are nothing to be told of.
    ///     ServerReport::Handler { error, .. } if is_reset(error) => {}
    ///     ServerReport::Handler { peer: Some(peer), error, .. } => log(format!("{peer}: {error}")),
    ///     other => log(other.to_string()),
    /// });
    ///
    /// fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    ///     let error = error.downcast_ref::<std::io::Error>();
    ///     error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    /// }
    /// # drop(builder);
    /// ```
    pub fn on_report(mut self, report: impl Fn(ServerReport<'_>) + 'static) -> Self {
        self.report = Rc::new(report);
        self
    }

    /// Starts the server: see [`start_server`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As there.
    pub async fn start<F, R>(mut self, host: impl ToHost, handler: F) -> io::Result<Server>
    where
        F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
        R: HandlerOutput + 'static,
    {
        let addrs = lookup_host(host).await?;
        if addrs.len() > 1 {
            self.options.only_v6(true); // Both can have the same port.
        }
        let listen = |addr: &SocketAddr| self.options.listen(addr);
        let listeners: Vec<_> = addrs.iter().map(listen).collect::<io::Result<_>>()?;
        Ok(self.serve(listeners, handler))
    }

    /// Starts the server: see [`start_unix_server`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// As there.
    pub async fn start_unix<F, R>(self, addr: impl ToUnixAddr, handler: F) -> io::Result<Server>
    where
        F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
        R: HandlerOutput + 'static,
    {
        checkpoint()?;
        let addr = addr.to_unix_addr()?;
        let path = addr.as_pathname();
        if let Some(path) = path
            && is_left_over(path)
        {
            let _ = std::fs::remove_file(path); // Binding says why, if it stays.
        }
        let listener = UnixListener::bind(&addr)?;
        let file = path.and_then(File::of);
        let mut server = self.serve([listener], handler);
        server.file = file;
        Ok(server)
    }

    /// Serves what listens already.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn serve<K, F, R>(
        self,
        listeners: impl IntoIterator<Item = Listener<K>>,
        handler: F,
    ) -> Server
    where
        K: Kind,
        F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
        R: HandlerOutput + 'static,
    {
        let serving = Rc::new(Serving {
            builder: self,
            connections: RefCell::default(),
            idle: Event::new(),
            ended_one: Event::new(),
            closed: Event::new(),
            listening: Cell::new(0),
        });
        serving.idle.set();
        let handler = Rc::new(handler);
        let mut addrs = Vec::new();
        let mut accepts = Vec::new();
        for listener in listeners {
            addrs.extend(listener.local_addr().ok().and_then(|addr| K::inet(&addr)));
            serving.listening.set(serving.listening.get() + 1);
            let accept = accept(serving.clone(), listener, handler.clone());
            let task = Task::builder().name("server").spawn(accept);
            accepts.push(task.as_ref());
        }
        if accepts.is_empty() {
            serving.closed.set();
        }
        Server {
            home: accepts.first().cloned(),
            accepts,
            serving,
            addrs,
            file: None,
        }
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("connections_max", &self.connections_max)
            .field("limit", &self.limit)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A server that listens, and its connections (asyncio's `Server`).
///
/// Dropping it closes it, as [`close`](Self::close) does: connections live on.
#[must_use = "a server that is dropped listens no more"]
pub struct Server {
    serving: Rc<Serving>,
    accepts: Vec<TaskRef>,
    /// One of them: of the runtime that serves.
    home: Option<TaskRef>,
    addrs: Vec<SocketAddr>,
    file: Option<File>,
}

struct Serving {
    builder: ServerBuilder,
    connections: RefCell<Slab<Task<()>>>,
    /// Set while there is no connection.
    idle: Event,
    /// Set when a connection has ended.
    ended_one: Event,
    /// Set when nothing listens any more.
    closed: Event,
    listening: Cell<usize>,
}

impl Server {
    /// Says how a server is to be.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            connections_max: usize::MAX,
            limit: LIMIT_BYTES,
            options: SocketOptions::new(),
            report: Rc::new(|report| {
                // There is nobody to give it to; if stderr is closed, neither to say so.
                let _ = writeln!(io::stderr(), "coring: {report}");
            }),
        }
    }

    /// The first address that it listens on.
    ///
    /// # Errors
    /// `AddrNotAvailable` if it is none of the internet.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let first = self.addrs.first().copied();
        first.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// All addresses of the internet that it listens on, or has listened on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// Connections that are being served.
    pub fn connections(&self) -> usize {
        self.serving.connections.borrow().len()
    }

    /// Whether it listens.
    pub fn is_serving(&self) -> bool {
        self.serving.listening.get() > 0 && !self.accepts.is_empty()
    }

    /// Listens no more. Connections live on, but those that [wait](ServerBuilder::connections_max) to be
    /// served are closed.
    pub fn close(&mut self) {
        for task in self.accepts.drain(..) {
            task.cancel();
        }
        if let Some(file) = self.file.take() {
            file.remove();
        }
    }

    /// Asks all connections to stop: each handler finds the cancellation at its next await.
    pub fn close_clients(&self) {
        for (_, task) in self.serving.connections.borrow().iter() {
            task.cancel();
        }
    }

    /// Waits until it is closed, and all connections have ended. Then its addresses are free.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too. `NotConnected` in
    /// another runtime than the one that serves.
    pub async fn wait_closed(&self) -> io::Result<()> {
        self.wait(&self.serving.closed).await?;
        self.wait(&self.serving.idle).await
    }

    /// Waits for what its tasks do.
    async fn wait(&self, event: &Event) -> io::Result<()> {
        if !event.is_set() {
            self.refuse_elsewhere()?;
        }
        event.wait().await
    }

    /// An error in another runtime than its own: its tasks would not go on meanwhile.
    fn refuse_elsewhere(&self) -> io::Result<()> {
        match &self.home {
            Some(task) if !task.is_here() => Err(elsewhere("this server is served")),
            _ => Ok(()),
        }
    }

    /// Waits until it listens no more. If that is cancelled, it is closed; its connections live on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect.
    ///
    /// # Errors
    /// [`Cancelled`](coring_runtime::Cancelled) if it is asked to stop, by a limit too. `NotConnected` in
    /// another runtime than the one that serves: it is closed then, too.
    pub async fn serve_forever(&mut self) -> io::Result<()> {
        let closed = self.wait(&self.serving.closed).await;
        if closed.is_err() {
            self.close();
        }
        closed
    }

    /// Ends it: listens no more, gives the connections `grace` to end; then asks them to stop, twice,
    /// and gives them `grace` each time; then drops them. Gives how many had to be asked. The addresses
    /// are free then.
    ///
    /// A connection has ended when its handler has, and what that has written is sent: what a peer does
    /// not take within these times is forgotten. Those that [wait](ServerBuilder::connections_max) to be
    /// served are closed at once.
    ///
    /// A request to stop goes on to the connections at once.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping this before it completes has no effect, but that the server is closed.
    ///
    /// # Errors
    /// [`Cancelled`](coring_runtime::Cancelled) if it was asked to stop: then the connections have
    /// ended all the same. `NotConnected` in another runtime than the one that serves: then it is
    /// closed, and its connections live on.
    pub async fn shutdown(mut self, grace: Duration) -> io::Result<usize> {
        self.close();
        self.refuse_elsewhere()?;
        // Soon: the kernel lets go of what listened, and what was accepted by then is served. A request
        // to stop is heard behind it.
        let closed = shielded(self.serving.closed.wait()).await;
        let ended = self.serving.ends_within(grace).await;
        let mut outcome = closed.and(ended);
        let asked = self.connections();
        for _ in 0..2 {
            if self.connections() == 0 {
                break;
            }
            self.close_clients();
            let ended = self.serving.ends_within(grace).await;
            outcome = outcome.and(ended);
        }
        let left = std::mem::take(&mut *self.serving.connections.borrow_mut());
        for (_, task) in left {
            task.abort();
        }
        outcome.map(|()| asked)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.addrs)
            .field("connections", &self.connections())
            .field("is_serving", &self.is_serving())
            .finish_non_exhaustive()
    }
}

impl Serving {
    fn report(&self, report: ServerReport<'_>) {
        (self.builder.report)(report);
    }

    /// Waits until there is no connection, or the span has passed.
    async fn ends_within(&self, span: Duration) -> io::Result<()> {
        // With a span of zero it is not to be asked whether it may.
        checkpoint()?;
        timeout(span, self.idle.wait()).await.unwrap_or(Ok(()))
    }

    /// Waits until one more connection can be served.
    async fn room(&self) -> io::Result<()> {
        while self.connections.borrow().len() >= self.builder.connections_max {
            self.ended_one.clear();
            self.ended_one.wait().await?;
        }
        Ok(())
    }

    /// Waits until a connection ends, or the span has passed.
    async fn room_within(&self, span: Duration) -> io::Result<()> {
        self.ended_one.clear();
        timeout(span, self.ended_one.wait())
            .await
            .unwrap_or(Ok(()))?;
        // Its descriptor is closed when the kernel has let go of it.
        submit(Turn).await
    }
}

/// Accepts connections, as long as nobody asks it to stop.
async fn accept<K, F, R>(serving: Rc<Serving>, mut listener: Listener<K>, handler: Rc<F>)
where
    K: Kind,
    F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: HandlerOutput + 'static,
{
    let _listening = Listening(serving.clone());
    let mut accepted = 0;
    let stopped = loop {
        accepted += 1;
        if accepted % ACCEPTS_MAX == 0
            && let Err(stopped) = yield_now().await
        {
            break stopped;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Only now: others may have waited for a connection when there was room for one.
                if let Err(stopped) = serving.room().await {
                    break stopped;
                }
                serve_one(&serving, stream, K::inet(&peer), handler.clone());
            }
            Err(error) if is_shortage(&error) => {
                serving.report(ServerReport::Paused(&error));
                if let Err(stopped) = serving.room_within(PAUSE).await {
                    break stopped;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => break error,
        }
    };
    if !is_cancelled(&stopped) {
        serving.report(ServerReport::Failed(&stopped));
    }
    listener.close().await;
}

/// Whether it may get better by itself.
fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn serve_one<K, F, R>(
    serving: &Rc<Serving>,
    stream: Stream<K>,
    peer: Option<SocketAddr>,
    handler: Rc<F>,
) where
    K: Kind,
    F: AsyncFn(StreamReader, StreamWriter) -> R + 'static,
    R: HandlerOutput + 'static,
{
    // It may have been reset since: the handler will see.
    let _ = K::set_nodelay(&stream);
    let (mut reader, writer) = stream.into_streams();
    let rest = writer.rest();
    reader.set_limit(serving.builder.limit);
    let mut connections = serving.connections.borrow_mut();
    let entry = connections.vacant_entry();
    let connection = Connection {
        serving: serving.clone(),
        key: entry.key(),
    };
    entry.insert(create_task(async move {
        let connection = connection;
        let output = call(&*handler, reader, writer).await;
        let reported = catch_unwind(AssertUnwindSafe(|| {
            connection.serving.report_end(peer, output);
        }));
        // Until then it counts: it has a descriptor, and memory.
        rest.sent().await;
        if let Err(panic) = reported {
            resume_unwind(panic);
        }
    }));
    serving.idle.clear();
}

/// Calls a handler, and waits for its future; a panic of either is the outcome. No `async fn`, which
/// would have room for the future twice.
fn call<F, R>(
    handler: &F,
    reader: StreamReader,
    writer: StreamWriter,
) -> impl Future<Output = thread::Result<R>>
where
    F: AsyncFn(StreamReader, StreamWriter) -> R,
{
    // Nobody looks at what has panicked.
    match catch_unwind(AssertUnwindSafe(|| handler(reader, writer))) {
        Ok(handled) => AssertUnwindSafe(handled).catch_unwind().left_future(),
        Err(panic) => ready(Err(panic)).right_future(),
    }
}

impl Serving {
    /// Reports how a handler ended, if that is not well.
    fn report_end(&self, peer: Option<SocketAddr>, output: thread::Result<impl HandlerOutput>) {
        match output {
            Ok(output) => {
                if let Some(error) = output.error()
                    && !is_cancelled(error)
                {
                    self.report(ServerReport::Handler { peer, error });
                }
            }
            Err(panic) => {
                let payload = &*panic;
                self.report(ServerReport::Panicked { peer, payload });
            }
        }
    }
}

/// A connection that is being served, until this is dropped.
struct Connection {
    serving: Rc<Serving>,
    key: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Self { serving, key } = self;
        let task = serving.connections.borrow_mut().try_remove(*key);
        drop(task);
        serving.ended_one.set();
        if serving.connections.borrow().is_empty() {
            serving.idle.set();
        }
    }
}

/// A listener that is being served, until this is dropped.
struct Listening(Rc<Serving>);

impl Drop for Listening {
    fn drop(&mut self) {
        let left = self.0.listening.get() - 1;
        self.0.listening.set(left);
        if left == 0 {
            self.0.closed.set();
        }
    }
}

/// The file of a Unix socket, by which it is known to be the server's own.
struct File {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl File {
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.symlink_metadata().ok()?;
        Some(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    /// Unless another server has it by now.
    fn remove(self) {
        let now = Self::of(&self.path);
        if now.is_some_and(|now| (now.device, now.inode) == (self.device, self.inode)) {
            let _ = std::fs::remove_file(&self.path); // Gone meanwhile is as well.
        }
    }
}

/// Whether it is a socket that an earlier server has left. What is no socket stays, and so does one
/// that somebody listens on: that one sees a connection that is closed at once.
fn is_left_over(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let metadata = path.symlink_metadata();
    if !metadata.is_ok_and(|metadata| metadata.file_type().is_socket()) {
        return false;
    }
    let refused = || {
        // Never waits: a backlog that is full is somebody's.
        let kind = Type::STREAM.cloexec().nonblocking();
        let probe = Socket::new(Domain::UNIX, kind, None)?;
        probe.connect(&SockAddr::unix(path)?)
    };
    refused().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
