//! One client: bytes in, commands executed, bytes out. All of the I/O with clients is here.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::time::Duration;

use coring::net::TcpStream;
use coring::{BufResult, IoBuf, Partial, is_cancelled, now, ok, shielded_for, wait_for};

use crate::admin::{Server, Session};
use crate::commands::execute;
use crate::resp::Parser;

/// What a connection begins with.
const INPUT_BYTES: usize = 16 * 1024;
/// Room for each read, at least.
const READ_MIN: usize = 4 * 1024;
/// A buffer that has become larger than this is given back when it is empty.
const KEPT_MAX: usize = 256 * 1024;
/// Replies that are written before more commands are looked at: a client that asks for a large
/// value a thousand times at once makes no buffer with all of them.
const REPLIES_MAX: usize = 64 * 1024;
/// A command that has not ended by then never will, as in Redis (`client-query-buffer-limit`).
const COMMAND_MAX: usize = 1 << 30;
/// How long replies to what was executed are tried to be sent when the server stops.
const GRACE: Duration = Duration::from_secs(1);

/// Serves a client until it leaves, or says what is no command.
pub(crate) async fn serve(stream: TcpStream, server: &RefCell<Server>) -> io::Result<()> {
    // Replies go out when they are whole, and are not to wait for more.
    stream.set_nodelay(true)?;
    let mut connection = Connection {
        session: Session::new(server.borrow().connections),
        stream,
        input: Vec::with_capacity(INPUT_BYTES),
        begin: 0,
        output: Vec::new(),
        parser: Parser::default(),
    };
    while connection.receive().await? {
        loop {
            let then = connection.execute(&mut server.borrow_mut());
            connection.send().await?;
            match then {
                Then::Read => break,
                Then::Execute => {}
                Then::Close => return connection.close().await,
            }
        }
    }
    ok(())
}

/// What a connection does when it has sent its replies.
enum Then {
    /// All commands that have arrived are executed.
    Read,
    /// There are more.
    Execute,
    Close,
}

struct Connection {
    stream: TcpStream,
    session: Session,
    /// What has been read. Commands before `begin` are executed.
    input: Vec<u8>,
    begin: usize,
    output: Vec<u8>,
    parser: Parser,
}

impl Connection {
    /// Reads what has arrived behind what is there: false at the end. The buffer doubles when it
    /// is full, so it grows with what has arrived, never with what a client says will.
    async fn receive(&mut self) -> io::Result<bool> {
        if self.input.capacity() - self.input.len() < READ_MIN {
            self.input.reserve(READ_MIN);
        }
        let input = mem::take(&mut self.input);
        let end = input.len();
        let BufResult(read, input) = self.stream.read(input.slice(end..)).await;
        self.input = input.into_inner();
        Ok(read? > 0 && self.input.len() <= COMMAND_MAX)
    }

    /// Executes what has arrived, without a pause: to the others it is one moment.
    fn execute(&mut self, server: &mut Server) -> Then {
        server.store.set_time(now());
        let then = loop {
            if self.output.len() >= REPLIES_MAX {
                return Then::Execute;
            }
            match self.parser.parse(&self.input[self.begin..]) {
                Ok(Some(command)) => {
                    execute(server, &mut self.session, command.args, &mut self.output);
                    self.begin += command.len;
                    if self.session.ended {
                        break Then::Close;
                    }
                }
                Ok(None) => break Then::Read,
                Err(error) => {
                    error.write(&mut self.output);
                    break Then::Close;
                }
            }
        };
        // Half a command at most is left, and moves to the front.
        self.input.drain(..self.begin);
        self.begin = 0;
        if self.input.is_empty() && self.input.capacity() > KEPT_MAX {
            self.input = Vec::with_capacity(INPUT_BYTES);
        }
        then
    }

    /// Sends the replies.
    async fn send(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return ok(());
        }
        let output = mem::take(&mut self.output);
        let BufResult(written, output) = self.stream.write_all(output).await;
        self.output = output;
        match written {
            // The server stops. What was executed is answered.
            Err(stopped) if is_cancelled(&stopped) => {
                let partial = stopped.get_ref().and_then(|e| e.downcast_ref::<Partial>());
                let written = partial.map_or(0, |partial| partial.transferred);
                let rest = mem::take(&mut self.output).slice(written..);
                shielded_for(GRACE, self.stream.write_all(rest)).await.0?;
                return Err(stopped);
            }
            written => written?,
        }
        self.output.clear();
        if self.output.capacity() > KEPT_MAX {
            self.output = Vec::new();
        }
        ok(())
    }

    /// Ends the connection. What still comes is read and thrown away for a while: if bytes were
    /// left unread the kernel would reset the connection, and the last reply might not arrive.
    async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write).await?;
        let drained = async {
            let mut buf = Vec::with_capacity(INPUT_BYTES);
            loop {
                let BufResult(read, back) = self.stream.read(buf).await;
                if read? == 0 {
                    return ok(());
                }
                buf = back;
            }
        };
        wait_for(drained, GRACE).await
    }
}
