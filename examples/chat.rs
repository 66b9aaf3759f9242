//! A chat: the first line that a client sends is its name, and each line after that goes to all
//! others.
//!
//! Run it with `cargo run --release --example chat -- [ADDR]`, and talk with `nc 127.0.0.1 7000`. A
//! client that reads too slowly is left behind: what waits for it is bounded. Ctrl-C ends it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::env;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use coring::{Server, StreamReader, StreamWriter, is_cancelled, ok, run};

/// What may wait for a client that does not read.
const BEHIND_BYTES_MAX: usize = 256 * 1024;
const LINE_BYTES_MAX: usize = 4 * 1024;
const GRACE: Duration = Duration::from_secs(1);

/// Everybody who is here. Writing never waits, so whoever has something to say writes to all.
#[derive(Default)]
struct Room {
    writers: RefCell<BTreeMap<u64, StreamWriter>>,
    came: Cell<u64>,
}

impl Room {
    fn enter(&self, writer: StreamWriter) -> u64 {
        let number = self.came.replace(self.came.get() + 1);
        self.writers.borrow_mut().insert(number, writer);
        number
    }

    fn say(&self, from: u64, line: &str) {
        for (&number, writer) in self.writers.borrow_mut().iter_mut() {
            if number == from {
                continue;
            }
            if writer.buffered() > BEHIND_BYTES_MAX {
                writer.abort();
            } else {
                writer.write(line);
            }
        }
    }
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    run(async {
        let room = Rc::new(Room::default());
        let handler = async move |reader, writer| talk(&room, reader, writer).await;
        let mut server = Server::builder()
            .limit(LINE_BYTES_MAX)
            .start(addr.as_deref().unwrap_or("127.0.0.1:7000"), handler)
            .await?;
        println!("listening on {}", server.local_addr()?);
        // Until Ctrl-C, which is a request to stop.
        match server.serve_forever().await {
            Err(error) if is_cancelled(&error) => {
                println!("no more clients");
                server.shutdown(GRACE).await?;
                ok(())
            }
            ended => ended,
        }
    })
}

/// One client, from its name to its last line.
async fn talk(room: &Room, mut reader: StreamReader, writer: StreamWriter) -> io::Result<()> {
    let name = line_of(&mut reader).await?;
    let number = room.enter(writer);
    room.say(number, &format!("* {name} is here\n"));
    let ended = loop {
        match line_of(&mut reader).await {
            Ok(line) if line.is_empty() && reader.at_eof() => break ok(()),
            Ok(line) => room.say(number, &format!("{name}: {line}\n")),
            Err(error) => break Err(error),
        }
    };
    room.say(number, &format!("* {name} has left\n"));
    room.writers.borrow_mut().remove(&number);
    ended
}

async fn line_of(reader: &mut StreamReader) -> io::Result<String> {
    let line = reader.readline().await?;
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}
