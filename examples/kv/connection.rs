//! One client: bytes in, commands executed, bytes out. All of the I/O with clients is here.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::time::Duration;

use coring::net::TcpStream;
use coring::{StreamReader, StreamWriter, now, ok, wait_for};

use crate::admin::{Server, Session};
use crate::commands::execute;
use crate::resp::Parser;

/// Replies that are longer are sent from where they are, others are copied.
const COPIED_MAX: usize = 16 * 1024;
/// Replies that are written before more commands are looked at: a client that asks for a large
/// value a thousand times at once makes no buffer with all of them.
const REPLIES_MAX: usize = 64 * 1024;
/// A command that has not ended by then never will, as in Redis (`client-query-buffer-limit`).
const COMMAND_MAX: usize = 1 << 30;
/// For how long what still comes of a client that was told goodbye is thrown away.
const GRACE: Duration = Duration::from_secs(1);

/// Serves a client until it leaves, or says what is no command.
pub(crate) async fn serve(stream: TcpStream, server: &RefCell<Server>) -> io::Result<()> {
    // Replies go out when they are whole, and are not to wait for more.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_streams();
    let mut connection = Connection {
        session: Session::new(server.borrow().connections),
        reader,
        writer,
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
    reader: StreamReader,
    writer: StreamWriter,
    session: Session,
    output: Vec<u8>,
    parser: Parser,
}

impl Connection {
    /// Waits for more: false at the end. What is kept grows with what has arrived, never with what a
    /// client says will.
    async fn receive(&mut self) -> io::Result<bool> {
        let before = self.reader.buffer().len();
        let unread = self.reader.fill().await?.len();
        Ok(unread > before && unread <= COMMAND_MAX)
    }

    /// Executes what has arrived, without a pause: to the others it is one moment.
    fn execute(&mut self, server: &mut Server) -> Then {
        server.store.set_time(now());
        loop {
            if self.output.len() >= REPLIES_MAX {
                return Then::Execute;
            }
            match self.parser.parse(self.reader.buffer()) {
                Ok(Some(command)) => {
                    execute(server, &mut self.session, command.args, &mut self.output);
                    let len = command.len;
                    self.reader.consume(len);
                    if self.session.ended {
                        return Then::Close;
                    }
                }
                Ok(None) => return Then::Read,
                Err(error) => {
                    error.write(&mut self.output);
                    return Then::Close;
                }
            }
        }
    }

    /// Has the replies sent, and waits if the client is slow. They go out also when the server stops.
    async fn send(&mut self) -> io::Result<()> {
        if self.output.len() > COPIED_MAX {
            self.writer.write(mem::take(&mut self.output));
        } else {
            self.writer.write(&self.output);
            self.output.clear();
        }
        self.writer.drain().await
    }

    /// Ends the connection. What still comes is read and thrown away for a while: if bytes were
    /// left unread the kernel would reset the connection, and the last reply might not arrive.
    async fn close(mut self) -> io::Result<()> {
        self.writer.write_eof();
        let drained = async {
            while !self.reader.at_eof() {
                let unread = self.reader.fill().await?.len();
                self.reader.consume(unread);
            }
            ok(())
        };
        wait_for(drained, GRACE).await
    }
}
