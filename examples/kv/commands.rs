//! The commands: which there are, and what those on keys and values do. Those about the connection
//! and the server are in `admin.rs`.

use crate::admin::{self, Server, Session};
use crate::resp::{self, Args};
use crate::store::{Expiry, Store};

/// What a command gives: it has written its reply, or refuses with these words of Redis's.
pub(crate) type Reply = Result<(), &'static str>;

pub(crate) const SYNTAX: &str = "ERR syntax error";
pub(crate) const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const OVERFLOW: &str = "ERR increment or decrement would overflow";
const TOO_LONG: &str = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

/// A command that is being executed.
pub(crate) struct Call<'a> {
    pub(crate) command: &'static Command,
    pub(crate) args: Args<'a>,
    pub(crate) server: &'a mut Server,
    pub(crate) session: &'a mut Session,
    pub(crate) out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// The value that there is not.
    pub(crate) fn null(&mut self) {
        self.session.version.null(self.out);
    }
}

/// A row of the table. All but `run` is what COMMAND tells clients.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// With the name; below zero: so many or more.
    pub(crate) arity: i64,
    pub(crate) flags: &'static [&'static str],
    /// The first and the last argument that is a key, and the step between two.
    pub(crate) keys: (i64, i64, i64),
    pub(crate) run: fn(&mut Call<'_>) -> Reply,
}

const ADMIN: &[&str] = &["loading", "stale", "fast"];
const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write", "fast"];
const NONE: (i64, i64, i64) = (0, 0, 0);
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);

const fn row(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    run: fn(&mut Call<'_>) -> Reply,
) -> Command {
    Command {
        name,
        arity,
        flags,
        keys,
        run,
    }
}

/// Searched from the top, so what is asked for most stands there.
pub(crate) static COMMANDS: &[Command] = &[
    row("get", 2, READ, ONE, get),
    row("set", -3, WRITE, ONE, set),
    row("incr", 2, WRITE, ONE, |call| add(call, 1)),
    row("decr", 2, WRITE, ONE, |call| add(call, -1)),
    row("incrby", 3, WRITE, ONE, incrby),
    row("decrby", 3, WRITE, ONE, decrby),
    row("del", -2, REMOVE, ALL, del),
    row("unlink", -2, REMOVE, ALL, del),
    row("exists", -2, READ, ALL, exists),
    row("mget", -2, READ, ALL, mget),
    row("mset", -3, WRITE, (1, -1, 2), mset),
    row("append", 3, WRITE, ONE, append),
    row("strlen", 2, READ, ONE, strlen),
    row("expire", -3, REMOVE, ONE, |call| expire(call, 1000)),
    row("pexpire", -3, REMOVE, ONE, |call| expire(call, 1)),
    row("ttl", 2, READ, ONE, |call| ttl(call, 1000)),
    row("pttl", 2, READ, ONE, |call| ttl(call, 1)),
    row("persist", 2, REMOVE, ONE, persist),
    row("dbsize", 1, READ, NONE, dbsize),
    row("flushall", -1, REMOVE, NONE, flush),
    row("flushdb", -1, REMOVE, NONE, flush),
    row("ping", -1, ADMIN, NONE, admin::ping),
    row("echo", 2, ADMIN, NONE, admin::echo),
    row("select", 2, ADMIN, NONE, admin::select),
    row("hello", -1, ADMIN, NONE, admin::hello),
    row("client", -2, ADMIN, NONE, admin::client),
    row("info", -1, ADMIN, NONE, admin::info),
    row("config", -2, ADMIN, NONE, admin::config),
    row("command", -1, ADMIN, NONE, admin::command),
    row("quit", -1, ADMIN, NONE, admin::quit),
];

pub(crate) fn find(name: &[u8]) -> Option<&'static Command> {
    let same = |command: &&Command| command.name.as_bytes().eq_ignore_ascii_case(name);
    COMMANDS.iter().find(same)
}

/// Executes one command, and appends its reply to `out`.
pub(crate) fn execute(
    server: &mut Server,
    session: &mut Session,
    args: Args<'_>,
    out: &mut Vec<u8>,
) {
    let Some(name) = args.get(0) else {
        return; // An empty line.
    };
    server.commands += 1;
    let Some(command) = find(name) else {
        return unknown(args, out);
    };
    if !is_arity(command.arity, args.len()) {
        return wrong_arity(out, &[command.name]);
    }
    let mut call = Call {
        command,
        args,
        server,
        session,
        out,
    };
    if let Err(words) = (command.run)(&mut call) {
        resp::error(out, [words.as_bytes()]);
    }
}

fn unknown(args: Args<'_>, out: &mut Vec<u8>) {
    const SHOWN_MAX: usize = 128;
    let mut shown = Vec::new();
    for arg in args.from(1) {
        if shown.len() >= SHOWN_MAX {
            break;
        }
        let room = SHOWN_MAX - shown.len();
        shown.extend_from_slice(b"'");
        shown.extend_from_slice(shortened(arg, room));
        shown.extend_from_slice(b"' ");
    }
    let name = shortened(&args[0], SHOWN_MAX);
    let begin = b"ERR unknown command '";
    resp::error(out, [begin, name, b"', with args beginning with: ", &shown]);
}

/// The start of what a client said, up to a zero, where a string of C ends.
pub(crate) fn shortened(words: &[u8], len: usize) -> &[u8] {
    let words = &words[..words.len().min(len)];
    words.split(|&byte| byte == 0).next().unwrap_or_default()
}

pub(crate) fn is_arity(arity: i64, args: usize) -> bool {
    args as i64 == arity || (arity < 0 && args as i64 >= -arity)
}

/// For a command whose name is in parts.
pub(crate) fn wrong_arity(out: &mut Vec<u8>, name: &[&str]) {
    let name = name.concat();
    let begin = b"ERR wrong number of arguments for '";
    resp::error(out, [begin, name.as_bytes(), b"' command"]);
}

/// A whole number of the client's.
fn integer(text: &[u8]) -> Result<i64, &'static str> {
    resp::integer(text).ok_or(NOT_AN_INTEGER)
}

fn get(call: &mut Call<'_>) -> Reply {
    match call.server.store.get(&call.args[1]) {
        Some(value) => resp::bulk(call.out, value),
        None => call.null(),
    }
    Ok(())
}

/// What stands behind SET's key and value.
struct SetOptions<'a> {
    /// NX: `Some(false)`, XX: `Some(true)`.
    only_if_exists: Option<bool>,
    /// GET: the reply is the old value.
    old: bool,
    keep: bool,
    /// EX or PX: the number, and milliseconds in one.
    span: Option<(&'a [u8], i64)>,
}

fn set_options(args: Args<'_>) -> Result<SetOptions<'_>, &'static str> {
    let mut options = SetOptions {
        only_if_exists: None,
        old: false,
        keep: false,
        span: None,
    };
    let mut words = args.from(3);
    while let Some(word) = words.next() {
        let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
        if is(b"nx") && options.only_if_exists != Some(true) {
            options.only_if_exists = Some(false);
        } else if is(b"xx") && options.only_if_exists != Some(false) {
            options.only_if_exists = Some(true);
        } else if is(b"get") {
            options.old = true;
        } else if is(b"keepttl") && options.span.is_none() {
            options.keep = true;
        } else if (is(b"ex") || is(b"px")) && !options.keep {
            let unit = if is(b"ex") { 1000 } else { 1 };
            if options.span.is_some_and(|(_, other)| other != unit) {
                return Err(SYNTAX);
            }
            options.span = Some((words.next().ok_or(SYNTAX)?, unit));
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(options)
}

fn set(call: &mut Call<'_>) -> Reply {
    let (key, value) = (&call.args[1], &call.args[2]);
    let store = &mut call.server.store;
    if call.args.len() == 3 {
        store.set(key, value, Expiry::Never);
        resp::simple(call.out, "OK");
        return Ok(());
    }
    let options = set_options(call.args)?;
    let mut expiry = match options.keep {
        true => Expiry::Keep,
        false => Expiry::Never,
    };
    if let Some((span, unit)) = options.span {
        let span = Some(integer(span)?).filter(|&span| span > 0);
        let span = span.and_then(|span| span.checked_mul(unit));
        let when = span.and_then(|span| span.checked_add(store.now()));
        expiry = Expiry::At(when.ok_or("ERR invalid expire time in 'set' command")?);
    }
    let version = call.session.version;
    if options.old {
        match store.get(key) {
            Some(old) => resp::bulk(call.out, old),
            None => version.null(call.out),
        }
    }
    let forbidden = options
        .only_if_exists
        .is_some_and(|wanted| store.contains(key) != wanted);
    if !forbidden {
        store.set(key, value, expiry);
    }
    if !options.old {
        match forbidden {
            true => version.null(call.out),
            false => resp::simple(call.out, "OK"),
        }
    }
    Ok(())
}

fn incrby(call: &mut Call<'_>) -> Reply {
    let by = integer(&call.args[2])?;
    add(call, by)
}

fn decrby(call: &mut Call<'_>) -> Reply {
    let by = integer(&call.args[2])?;
    if by == i64::MIN {
        return Err("ERR decrement would overflow");
    }
    add(call, -by)
}

fn add(call: &mut Call<'_>, by: i64) -> Reply {
    let key = &call.args[1];
    let old = match call.server.store.get(key) {
        Some(old) => integer(old)?,
        None => 0,
    };
    let new = old.checked_add(by).ok_or(OVERFLOW)?;
    let mut digits = [0; 20];
    let value = resp::decimal(new, &mut digits);
    call.server.store.set(key, value, Expiry::Keep);
    resp::number(call.out, new);
    Ok(())
}

/// The reply is how many of the keys `f` said yes to.
fn count(call: &mut Call<'_>, mut f: impl FnMut(&mut Store, &[u8]) -> bool) -> Reply {
    let store = &mut call.server.store;
    let count = call.args.from(1).filter(|key| f(store, key)).count();
    resp::number(call.out, count as i64);
    Ok(())
}

fn del(call: &mut Call<'_>) -> Reply {
    count(call, Store::remove)
}

fn exists(call: &mut Call<'_>) -> Reply {
    count(call, Store::contains)
}

fn mget(call: &mut Call<'_>) -> Reply {
    resp::array(call.out, call.args.len() - 1);
    for key in call.args.from(1) {
        match call.server.store.get(key) {
            Some(value) => resp::bulk(call.out, value),
            None => call.null(),
        }
    }
    Ok(())
}

fn mset(call: &mut Call<'_>) -> Reply {
    if call.args.len().is_multiple_of(2) {
        wrong_arity(call.out, &["mset"]);
        return Ok(());
    }
    let mut words = call.args.from(1);
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        call.server.store.set(key, value, Expiry::Never);
    }
    resp::simple(call.out, "OK");
    Ok(())
}

fn append(call: &mut Call<'_>) -> Reply {
    let (key, tail) = (&call.args[1], &call.args[2]);
    let store = &mut call.server.store;
    let old = store.get(key).map_or(0, <[u8]>::len);
    if old + tail.len() > resp::BULK_MAX {
        return Err(TOO_LONG);
    }
    let len = store.append(key, tail);
    resp::number(call.out, len as i64);
    Ok(())
}

fn strlen(call: &mut Call<'_>) -> Reply {
    let len = call.server.store.get(&call.args[1]).map_or(0, <[u8]>::len);
    resp::number(call.out, len as i64);
    Ok(())
}

/// NX, XX, GT and LT of EXPIRE.
#[derive(Default)]
struct ExpireOptions {
    only_without: bool,
    only_with: bool,
    only_later: bool,
    only_earlier: bool,
}

impl ExpireOptions {
    fn allow(&self, when: i64, current: Option<i64>) -> bool {
        match current {
            // What does not expire does so later than anything.
            None => !self.only_with && !self.only_later,
            Some(current) => {
                !self.only_without
                    && (!self.only_later || when > current)
                    && (!self.only_earlier || when < current)
            }
        }
    }
}

/// EXPIRE and PEXPIRE, with `unit` milliseconds in one.
fn expire(call: &mut Call<'_>, unit: i64) -> Reply {
    let mut options = ExpireOptions::default();
    for word in call.args.from(3) {
        let flag = match word {
            _ if word.eq_ignore_ascii_case(b"nx") => &mut options.only_without,
            _ if word.eq_ignore_ascii_case(b"xx") => &mut options.only_with,
            _ if word.eq_ignore_ascii_case(b"gt") => &mut options.only_later,
            _ if word.eq_ignore_ascii_case(b"lt") => &mut options.only_earlier,
            _ => {
                resp::error(call.out, [b"ERR Unsupported option ", word]);
                return Ok(());
            }
        };
        *flag = true;
    }
    if options.only_without && (options.only_with || options.only_later || options.only_earlier) {
        return Err("ERR NX and XX, GT or LT options at the same time are not compatible");
    }
    if options.only_later && options.only_earlier {
        return Err("ERR GT and LT options at the same time are not compatible");
    }
    let span = integer(&call.args[2])?.checked_mul(unit);
    let now = call.server.store.now();
    let Some(when) = span.and_then(|span| span.checked_add(now)) else {
        let begin = b"ERR invalid expire time in '";
        let name = call.command.name.as_bytes();
        resp::error(call.out, [begin, name, b"' command"]);
        return Ok(());
    };
    let key = &call.args[1];
    let store = &mut call.server.store;
    let current = store.expires(key);
    let allowed = current.is_some_and(|current| options.allow(when, current));
    if allowed && when <= now {
        store.remove(key);
    } else if allowed {
        store.expire_at(key, Some(when));
    }
    resp::number(call.out, i64::from(allowed));
    Ok(())
}

/// TTL and PTTL: -2 without the key, -1 if it does not expire.
fn ttl(call: &mut Call<'_>, unit: i64) -> Reply {
    let rest = match call.server.store.expires(&call.args[1]) {
        None => -2,
        Some(None) => -1,
        // To the nearest, as Redis's.
        Some(Some(when)) => {
            ((when - call.server.store.now()) as u64 + unit as u64 / 2) as i64 / unit
        }
    };
    resp::number(call.out, rest);
    Ok(())
}

fn persist(call: &mut Call<'_>) -> Reply {
    let key = &call.args[1];
    let store = &mut call.server.store;
    let expires = matches!(store.expires(key), Some(Some(_)));
    if expires {
        store.expire_at(key, None);
    }
    resp::number(call.out, i64::from(expires));
    Ok(())
}

fn dbsize(call: &mut Call<'_>) -> Reply {
    resp::number(call.out, call.server.store.len() as i64);
    Ok(())
}

fn flush(call: &mut Call<'_>) -> Reply {
    let known = match call.args.get(1) {
        None => true,
        Some(how) => how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async"),
    };
    if !known || call.args.len() > 2 {
        return Err(SYNTAX);
    }
    call.server.store.clear();
    resp::simple(call.out, "OK");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use coring::Instant;

    use super::*;
    use crate::resp::Parser;

    struct Client {
        server: Server,
        session: Session,
        now: Instant,
    }

    impl Client {
        fn new() -> Self {
            let start = Instant::FAR_FUTURE - Duration::MAX;
            Self {
                server: Server::new(start, 6379),
                session: Session::new(1),
                now: start,
            }
        }

        fn pass(&mut self, millis: u64) {
            self.now += Duration::from_millis(millis);
            self.server.store.set_time(self.now);
        }

        /// The reply, whose lines are parted by spaces.
        fn ask(&mut self, line: &str) -> String {
            let mut parser = Parser::default();
            let mut out = Vec::new();
            let line = format!("{line}\n");
            let command = parser.parse(line.as_bytes()).expect("no error");
            let args = command.expect("it is whole").args;
            execute(&mut self.server, &mut self.session, args, &mut out);
            let text = String::from_utf8(out).expect("what the tests wrote");
            text.strip_suffix("\r\n")
                .expect("a reply")
                .replace("\r\n", " ")
        }

        /// Commands and their replies.
        fn script(&mut self, lines: &[(&str, &str)]) {
            for (line, reply) in lines {
                assert_eq!(self.ask(line), *reply, "{line}");
            }
        }
    }

    #[test]
    fn strings() {
        Client::new().script(&[
            ("get k", "$-1"),
            ("SeT k v", "+OK"),
            ("get k", "$1 v"),
            ("strlen k", ":1"),
            ("strlen none", ":0"),
            ("append k w", ":2"),
            ("append new w", ":1"),
            ("mset a 1 b 2 a 3", "+OK"),
            (
                "mset a 1 b",
                "-ERR wrong number of arguments for 'mset' command",
            ),
            ("mget a b none k", "*4 $1 3 $1 2 $-1 $2 vw"),
            ("exists a a none", ":2"),
            ("dbsize", ":4"),
            ("del a none a", ":1"),
            ("unlink b k", ":2"),
            ("flushall async", "+OK"),
            ("flushdb now", "-ERR syntax error"),
            ("dbsize", ":0"),
        ]);
    }

    #[test]
    fn options_of_set() {
        Client::new().script(&[
            ("set k v xx", "$-1"),
            ("set k v nx", "+OK"),
            ("set k w nx", "$-1"),
            ("set k w xx get", "$1 v"),
            ("set k x nx get", "$1 w"),
            ("get k", "$1 w"),
            ("set none x get", "$-1"),
            ("set k v ex 100", "+OK"),
            ("set k v keepttl", "+OK"),
            ("ttl k", ":100"),
            ("set k v px 1500", "+OK"),
            ("pttl k", ":1500"),
            ("set k v", "+OK"),
            ("ttl k", ":-1"),
            ("set k v nx xx", "-ERR syntax error"),
            ("set k v ex", "-ERR syntax error"),
            ("set k v ex 1 px 1", "-ERR syntax error"),
            ("set k v ex 1 keepttl", "-ERR syntax error"),
            ("set k v keepttl ex 1", "-ERR syntax error"),
            ("set k v foo", "-ERR syntax error"),
            (
                "set k v ex x",
                "-ERR value is not an integer or out of range",
            ),
            ("set k v ex 0", "-ERR invalid expire time in 'set' command"),
            ("set k v px -1", "-ERR invalid expire time in 'set' command"),
            (
                "set k v ex 9223372036854775807",
                "-ERR invalid expire time in 'set' command",
            ),
        ]);
    }

    #[test]
    fn counters() {
        let overflow = "-ERR increment or decrement would overflow";
        let no_integer = "-ERR value is not an integer or out of range";
        Client::new().script(&[
            ("incr n", ":1"),
            ("incrby n 41", ":42"),
            ("decr n", ":41"),
            ("decrby n 50", ":-9"),
            ("get n", "$2 -9"),
            ("set n 9223372036854775807", "+OK"),
            ("incr n", overflow),
            ("decrby n -1", overflow),
            (
                "decrby n -9223372036854775808",
                "-ERR decrement would overflow",
            ),
            ("set n -9223372036854775808", "+OK"),
            ("decr n", overflow),
            ("incrby n 1.5", no_integer),
            ("set n 01", "+OK"),
            ("incr n", no_integer),
            ("set n 1 ex 100", "+OK"),
            ("incr n", ":2"),
            ("ttl n", ":100"),
        ]);
    }

    #[test]
    fn expiry() {
        let mut client = Client::new();
        client.pass(12_345);
        client.script(&[
            ("ttl k", ":-2"),
            ("expire k 10", ":0"),
            ("set k v", "+OK"),
            ("persist k", ":0"),
            ("expire k 10", ":1"),
            ("expire k 5 gt", ":0"),
            ("expire k 5 lt", ":1"),
            ("expire k 9 nx", ":0"),
            ("expire k 9 xx", ":1"),
            ("pttl k", ":9000"),
            ("persist k", ":1"),
            ("expire k 10 xx", ":0"),
            ("expire k 10 gt", ":0"),
            ("pexpire k 1501 lt", ":1"),
            ("ttl k", ":2"),
            ("expire k x", "-ERR value is not an integer or out of range"),
            ("expire k 1 foo", "-ERR Unsupported option foo"),
            (
                "expire k 1 nx gt",
                "-ERR NX and XX, GT or LT options at the same time are not compatible",
            ),
            (
                "expire k 1 gt lt",
                "-ERR GT and LT options at the same time are not compatible",
            ),
            (
                "pexpire k 9223372036854775807",
                "-ERR invalid expire time in 'pexpire' command",
            ),
            ("pexpire k 10", ":1"),
        ]);
        client.pass(10);
        assert_eq!(client.ask("get k"), "$1 v");
        client.pass(1);
        assert_eq!(client.ask("get k"), "$-1");
        // What has expired before is removed.
        client.script(&[("set k v", "+OK"), ("expire k -1", ":1"), ("get k", "$-1")]);
    }

    #[test]
    fn what_is_no_command() {
        let long = "x".repeat(200);
        let shown = &long[..128];
        Client::new().script(&[
            ("get", "-ERR wrong number of arguments for 'get' command"),
            (
                "GET a b",
                "-ERR wrong number of arguments for 'get' command",
            ),
            (
                "foo a 'b c'",
                "-ERR unknown command 'foo', with args beginning with: 'a' 'b c' ",
            ),
            (
                &long,
                &format!("-ERR unknown command '{shown}', with args beginning with: "),
            ),
            (
                &format!("foo {long} a"),
                &format!("-ERR unknown command 'foo', with args beginning with: '{shown}' "),
            ),
            (
                r#"foo "a\r\n-b" "#,
                "-ERR unknown command 'foo', with args beginning with: 'a  -b' ",
            ),
        ]);
    }

    #[test]
    fn connection_and_server() {
        let mut client = Client::new();
        client.script(&[
            ("ping", "+PONG"),
            ("ping a", "$1 a"),
            (
                "ping a b",
                "-ERR wrong number of arguments for 'ping' command",
            ),
            ("echo a", "$1 a"),
            ("select 0", "+OK"),
            ("select 1", "-ERR DB index is out of range"),
            ("select x", "-ERR value is not an integer or out of range"),
            ("client getname", "$-1"),
            ("client setname me", "+OK"),
            ("client getname", "$2 me"),
            (
                "client setname 'a b'",
                "-ERR Client names cannot contain spaces, newlines or special characters.",
            ),
            ("client id", ":1"),
            (
                "client id 1",
                "-ERR wrong number of arguments for 'client|id' command",
            ),
            (
                "client foo",
                "-ERR unknown subcommand 'foo'. Try CLIENT HELP.",
            ),
            ("client setinfo lib-name coring", "+OK"),
            ("config get save", "*2 $4 save $0 "),
            ("config get APPEND*", "*2 $10 appendonly $2 no"),
            ("config get s*v? nothing", "*2 $4 save $0 "),
            (
                "config get",
                "-ERR wrong number of arguments for 'config|get' command",
            ),
            (
                "command info get none",
                "*2 *10 $3 get :2 *2 +readonly +fast :1 :1 :1 *0 *0 *0 *0 *-1",
            ),
            ("command docs", "*0"),
            ("hello 4", "-NOPROTO unsupported protocol version"),
            (
                "hello x",
                "-ERR Protocol version is not an integer or out of range",
            ),
            ("hello 2 foo", "-ERR Syntax error in HELLO option 'foo'"),
            (
                "hello 2 setname",
                "-ERR Syntax error in HELLO option 'setname'",
            ),
            (
                "hello 2 auth other x",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            ("info nothing", "$0 "),
        ]);
        let hello = client.ask("hello 2 auth default x setname you");
        assert!(hello.starts_with("*14 $6 server $5 redis "), "{hello}");
        assert_eq!(client.ask("client getname"), "$3 you");
        let hello = client.ask("hello 3");
        assert!(hello.starts_with("%7 $6 server "), "{hello}");
        client.script(&[
            ("get none", "_"),
            ("set none x xx", "_"),
            ("config get save", "%1 $4 save $0 "),
            ("command docs", "%0"),
            (
                "command info get none",
                "*2 *10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~0 *0 *0 *0 _",
            ),
            ("info nothing", "=4 txt:"),
        ]);
        // Without a number it is as it was.
        assert!(client.ask("hello").starts_with("%7 "));
        assert!(client.ask("hello 2").starts_with("*14 "));
        let count = COMMANDS.len();
        assert_eq!(client.ask("command count"), format!(":{count}"));
        assert!(
            client
                .ask("command")
                .starts_with(&format!("*{count} *10 $3 get "))
        );
        assert!(
            client
                .ask("command list")
                .starts_with(&format!("*{count} $3 get "))
        );
        client.ask("set k v ex 100");
        client.pass(5_000);
        let info = client.ask("info");
        for part in [
            "uptime_in_seconds:5",
            "db0:keys=1,expires=1",
            "used_memory:",
        ] {
            assert!(info.contains(part), "{part} is not in {info}");
        }
        assert!(!client.ask("info keyspace").contains("uptime"));
        assert!(!client.session.ended);
        assert_eq!(client.ask("quit"), "+OK");
        assert!(client.session.ended);
    }
}
