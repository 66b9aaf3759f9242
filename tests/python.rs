//! Python's asyncio at the other end.

#![cfg(not(miri))]

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::Shutdown;
use std::process::{Child, Command, Stdio};
use std::thread;

use common::*;
use coring::net::{TcpListener, TcpStream};
use coring::{BufResult, create_task};

/// Runs a program of `tests/peers`, if there is a Python to do so.
fn python(test: &str, program: &str, argument: Option<String>) -> Option<Child> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/").to_owned() + program;
    let child = Command::new("python3")
        .arg(path)
        .args(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(error) => {
            skip(test, &format!("python3 does not start: {error}"));
            None
        }
    }
}

#[test]
fn asyncio_client_is_served() {
    let world = World::uring();
    world.run(async {
        let mut listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound").to_string();
        let Some(client) = python("asyncio_client_is_served", "client.py", Some(addr)) else {
            return;
        };
        let client = thread::spawn(move || client.wait_with_output());
        let mut echoes = Vec::new();
        for _ in 0..50 {
            let (mut stream, _) = listener.accept().await.expect("a client");
            echoes.push(create_task(async move {
                let mut buf = Vec::with_capacity(4096);
                loop {
                    let BufResult(n, back) = stream.read(buf).await;
                    if n? == 0 {
                        return coring::ok(());
                    }
                    let BufResult(written, back) = stream.write_all(back).await;
                    written?;
                    buf = back;
                }
            }));
        }
        for echo in echoes {
            echo.await.expect("the client is content");
        }
        until(|| client.is_finished()).await;
        let output = client.join().expect("it waits").expect("it ends");
        assert!(output.status.success(), "{}", output.status);
        assert_eq!(output.stdout, b"done\n");
    });
}

#[test]
fn asyncio_server_serves() {
    let world = World::uring();
    world.run(async {
        let Some(mut server) = python("asyncio_server_serves", "server.py", None) else {
            return;
        };
        let mut addr = String::new();
        let mut stdout = BufReader::new(server.stdout.take().expect("it is piped"));
        stdout.read_line(&mut addr).expect("it says where it is");
        let addr = addr.trim().to_owned();
        let clients: Vec<_> = (0..50_u8)
            .map(|i| {
                let addr = addr.clone();
                create_task(async move {
                    let (mut reader, mut writer) = TcpStream::connect(addr).await?.into_split();
                    let sender = create_task(async move {
                        writer.write_all(vec![i; 500_000]).await.0?;
                        writer.shutdown().await
                    });
                    let BufResult(read, buf) = reader.read_exact(Vec::with_capacity(500_000)).await;
                    read?;
                    assert!(buf.iter().all(|&byte| byte == i));
                    assert_eq!(reader.read(buf).await.0?, 0);
                    sender.await
                })
            })
            .collect();
        for client in clients {
            client.await.expect("it is served");
        }
        // A server that is there no more.
        let mut last = TcpStream::connect(addr).await.expect("it still listens");
        last.write_all("bye").await.0.expect("it is connected");
        last.shutdown(Shutdown::Write)
            .await
            .expect("it is connected");
        assert_eq!(last.read(Vec::with_capacity(9)).await.1, b"bye");
        drop(server.stdin.take());
        let ended = thread::spawn(move || server.wait());
        until(|| ended.is_finished()).await;
        let status = ended.join().expect("it waits").expect("it ends");
        assert!(status.success(), "{status}");
    });
}
