//! The commands about the connection and the server: what redis-cli, redis-benchmark and client
//! libraries ask before their work and beside it.

use std::io::Write as _;
use std::process;

use coring::Instant;

use crate::commands::{
    COMMANDS, Call, Command, NOT_AN_INTEGER, Reply, find, is_arity, shortened, wrong_arity,
};
use crate::resp::{self, Version};
use crate::store::Store;

/// Of the Redis whose commands these are: client libraries look at it.
const VERSION: &str = "7.0.0";

/// What the connections share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) port: u16,
    pub(crate) started: Instant,
    /// Connections that are open.
    pub(crate) clients: usize,
    /// Connections so far: the last one's number.
    pub(crate) connections: i64,
    /// Commands so far.
    pub(crate) commands: u64,
}

impl Server {
    pub(crate) fn new(started: Instant, port: u16) -> Self {
        Self {
            store: Store::new(),
            port,
            started,
            clients: 0,
            connections: 0,
            commands: 0,
        }
    }
}

/// What a connection knows of its client.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: i64,
    /// CLIENT SETNAME
    pub(crate) name: Vec<u8>,
    /// HELLO
    pub(crate) version: Version,
    /// QUIT: no command behind it is executed.
    pub(crate) ended: bool,
}

impl Session {
    pub(crate) fn new(id: i64) -> Self {
        Self {
            id,
            name: Vec::new(),
            version: Version::default(),
            ended: false,
        }
    }
}

pub(crate) fn ping(call: &mut Call<'_>) -> Reply {
    match call.args.len() {
        1 => resp::simple(call.out, "PONG"),
        2 => resp::bulk(call.out, &call.args[1]),
        _ => wrong_arity(call.out, &["ping"]),
    }
    Ok(())
}

pub(crate) fn echo(call: &mut Call<'_>) -> Reply {
    resp::bulk(call.out, &call.args[1]);
    Ok(())
}

pub(crate) fn quit(call: &mut Call<'_>) -> Reply {
    call.session.ended = true;
    ok(call)
}

/// There is one database.
pub(crate) fn select(call: &mut Call<'_>) -> Reply {
    match resp::integer(&call.args[1]) {
        Some(0) => ok(call),
        Some(_) => Err("ERR DB index is out of range"),
        None => Err(NOT_AN_INTEGER),
    }
}

/// The first words of client libraries: which version of the protocol they speak, and who they are.
pub(crate) fn hello(call: &mut Call<'_>) -> Reply {
    let mut version = call.session.version;
    if let Some(wanted) = call.args.get(1) {
        match resp::integer(wanted) {
            Some(2) => version = Version::Resp2,
            Some(3) => version = Version::Resp3,
            Some(_) => return Err("NOPROTO unsupported protocol version"),
            None => return Err("ERR Protocol version is not an integer or out of range"),
        }
    }
    let mut name = None;
    let mut words = call.args.from(2);
    while let Some(word) = words.next() {
        // The arguments are looked at only if there are enough of them, as in Redis.
        let mut behind = words.clone();
        let (one, two) = (behind.next(), behind.next());
        match (one, two) {
            (Some(user), Some(_password)) if word.eq_ignore_ascii_case(b"auth") => {
                // No password is set, and then any will do.
                if user != b"default" {
                    return Err("WRONGPASS invalid username-password pair or user is disabled.");
                }
                words.nth(1);
            }
            (Some(given), _) if word.eq_ignore_ascii_case(b"setname") => {
                name = Some(client_name(given)?);
                words.next();
            }
            _ => {
                resp::error(
                    call.out,
                    [b"ERR Syntax error in HELLO option '", word, b"'"],
                );
                return Ok(());
            }
        }
    }
    if let Some(name) = name {
        call.session.name = name.to_vec();
    }
    call.session.version = version;
    let id = call.session.id;
    let out = &mut *call.out;
    version.map(out, 7);
    for (field, value) in [("server", "redis"), ("version", VERSION)] {
        resp::bulk(out, field.as_bytes());
        resp::bulk(out, value.as_bytes());
    }
    for (field, value) in [
        ("proto", 2 + i64::from(version == Version::Resp3)),
        ("id", id),
    ] {
        resp::bulk(out, field.as_bytes());
        resp::number(out, value);
    }
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        resp::bulk(out, field.as_bytes());
        resp::bulk(out, value.as_bytes());
    }
    resp::bulk(out, b"modules");
    resp::array(out, 0);
    Ok(())
}

/// Names are shown in lists, a line each.
fn client_name(name: &[u8]) -> Result<&[u8], &'static str> {
    match name.iter().all(u8::is_ascii_graphic) {
        true => Ok(name),
        false => Err("ERR Client names cannot contain spaces, newlines or special characters."),
    }
}

/// A subcommand: its name, its arity with both names, what it does.
type Subcommand = (&'static str, i64, fn(&mut Call<'_>) -> Reply);

const CLIENT: &[Subcommand] = &[
    ("id", 2, |call| {
        resp::number(call.out, call.session.id);
        Ok(())
    }),
    ("getname", 2, |call| {
        match &call.session.name[..] {
            b"" => call.null(),
            name => resp::bulk(call.out, name),
        }
        Ok(())
    }),
    ("setname", 3, |call| {
        call.session.name = client_name(&call.args[2])?.to_vec();
        ok(call)
    }),
    // Which library it is. Nobody asks for that here.
    ("setinfo", 4, ok),
];

const CONFIG: &[Subcommand] = &[("get", -3, config_get)];

const COMMAND: &[Subcommand] = &[
    ("count", 2, |call| {
        resp::number(call.out, COMMANDS.len() as i64);
        Ok(())
    }),
    // redis-cli completes words with them; it does without.
    ("docs", -2, |call| {
        call.session.version.map(call.out, 0);
        Ok(())
    }),
    ("list", 2, |call| {
        resp::array(call.out, COMMANDS.len());
        for command in COMMANDS {
            resp::bulk(call.out, command.name.as_bytes());
        }
        Ok(())
    }),
    ("info", -2, command_info),
];

pub(crate) fn client(call: &mut Call<'_>) -> Reply {
    subcommand(call, CLIENT)
}

pub(crate) fn config(call: &mut Call<'_>) -> Reply {
    subcommand(call, CONFIG)
}

pub(crate) fn command(call: &mut Call<'_>) -> Reply {
    match call.args.len() {
        1 => command_info(call),
        _ => subcommand(call, COMMAND),
    }
}

fn subcommand(call: &mut Call<'_>, table: &'static [Subcommand]) -> Reply {
    let name = &call.args[1];
    let command = call.command.name;
    let mut rows = table.iter();
    let Some((found, arity, run)) = rows.find(|row| row.0.as_bytes().eq_ignore_ascii_case(name))
    else {
        let shown = shortened(name, 128);
        let try_help = format!("'. Try {} HELP.", command.to_ascii_uppercase());
        let begin = b"ERR unknown subcommand '";
        resp::error(call.out, [begin, shown, try_help.as_bytes()]);
        return Ok(());
    };
    if !is_arity(*arity, call.args.len()) {
        wrong_arity(call.out, &[command, "|", found]);
        return Ok(());
    }
    run(call)
}

fn command_info(call: &mut Call<'_>) -> Reply {
    if call.args.len() <= 2 {
        resp::array(call.out, COMMANDS.len());
        for command in COMMANDS {
            describe(command, call);
        }
        return Ok(());
    }
    resp::array(call.out, call.args.len() - 2);
    for name in call.args.from(2) {
        match find(name) {
            Some(command) => describe(command, call),
            None => call.session.version.null_array(call.out),
        }
    }
    Ok(())
}

/// The last four, which are categories, hints, where keys are, and subcommands, are left empty.
fn describe(command: &Command, call: &mut Call<'_>) {
    let out = &mut *call.out;
    resp::array(out, 10);
    resp::bulk(out, command.name.as_bytes());
    resp::number(out, command.arity);
    call.session.version.set(out, command.flags.len());
    for flag in command.flags {
        resp::simple(out, flag);
    }
    let (first, last, step) = command.keys;
    for number in [first, last, step] {
        resp::number(out, number);
    }
    call.session.version.set(out, 0);
    for _ in 0..3 {
        resp::array(out, 0);
    }
}

/// What cannot be changed here, in the names of what can in Redis. redis-benchmark looks at the
/// first two.
const SETTINGS: &[(&str, &str)] = &[
    ("save", ""),
    ("appendonly", "no"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("proto-max-bulk-len", "536870912"),
];

fn config_get(call: &mut Call<'_>) -> Reply {
    let wanted = |name: &str| {
        let mut patterns = call.args.from(2);
        patterns.any(|pattern| matches(pattern, name.as_bytes()))
    };
    let found = || SETTINGS.iter().filter(|(name, _)| wanted(name));
    call.session.version.map(call.out, found().count());
    for (name, value) in found() {
        resp::bulk(call.out, name.as_bytes());
        resp::bulk(call.out, value.as_bytes());
    }
    Ok(())
}

/// Whether a pattern with `*` and `?` in it is that name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on if what follows the last star does not match: the star takes a byte more.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte.eq_ignore_ascii_case(&name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// A section of INFO: its name, and what writes it.
type Section = (
    &'static str,
    fn(&Server, &mut Vec<u8>) -> std::io::Result<()>,
);

const SECTIONS: &[Section] = &[
    ("Server", |server, out| {
        let millis = server.store.now() - (server.started.as_nanos() / 1_000_000) as i64;
        write!(out, "redis_version:{VERSION}\r\nredis_mode:standalone\r\n")?;
        write!(
            out,
            "server_name:coring-kv\r\nprocess_id:{}\r\n",
            process::id()
        )?;
        write!(out, "tcp_port:{}\r\n", server.port)?;
        write!(out, "uptime_in_seconds:{}\r\n", millis / 1000)
    }),
    ("Clients", |server, out| {
        write!(out, "connected_clients:{}\r\n", server.clients)?;
        write!(out, "maxclients:{}\r\n", crate::CLIENTS_MAX)
    }),
    ("Memory", |server, out| {
        write!(
            out,
            "used_memory:{}\r\nmaxmemory:0\r\n",
            server.store.bytes()
        )
    }),
    ("Stats", |server, out| {
        write!(out, "total_connections_received:{}\r\n", server.connections)?;
        write!(out, "total_commands_processed:{}\r\n", server.commands)?;
        write!(out, "expired_keys:{}\r\n", server.store.expired())
    }),
    ("Keyspace", |server, out| {
        let store = &server.store;
        if store.len() == 0 {
            return Ok(());
        }
        let (keys, volatile) = (store.len(), store.volatile());
        write!(out, "db0:keys={keys},expires={volatile},avg_ttl=0\r\n")
    }),
];

pub(crate) fn info(call: &mut Call<'_>) -> Reply {
    let all = call.args.len() == 1
        || call.args.from(1).any(|word| {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            is(b"all") || is(b"default") || is(b"everything")
        });
    let mut text = Vec::new();
    for (name, write) in SECTIONS {
        let named = |word: &[u8]| word.eq_ignore_ascii_case(name.as_bytes());
        if all || call.args.from(1).any(named) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            write!(text, "{gap}# {name}\r\n")
                .and_then(|()| write(call.server, &mut text))
                .expect("a vector takes it");
        }
    }
    call.session.version.text(call.out, &text);
    Ok(())
}

pub(crate) fn ok(call: &mut Call<'_>) -> Reply {
    resp::simple(call.out, "OK");
    Ok(())
}
