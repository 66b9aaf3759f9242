//! An HTTP server: hyper speaks the protocol, coring has the connections.
//!
//! Run it with `cargo run --release --example hyper -- [ADDR]`, and ask `curl 127.0.0.1:8000/`, or
//! `curl 127.0.0.1:8000/echo --data-binary @FILE`. At Ctrl-C it takes no more connections, closes
//! those that wait for a request, and gives those that are being answered five seconds.

use std::env;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use coring::sync::Event;
use coring::{HyperTimer, PollStream, Server, is_cancelled, ok, run};
use futures_util::future::{Either, select};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};

const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    run(async {
        let stopping = Rc::new(Event::new());
        let stop = stopping.clone();
        let handler =
            async move |reader, writer| serve(PollStream::new(reader, writer), &stop).await;
        let mut server = Server::builder()
            .connections_max(10_000)
            .start(addr.as_deref().unwrap_or("127.0.0.1:8000"), handler)
            .await?;
        println!("listening on {}", server.local_addr()?);
        // Until Ctrl-C, which is a request to stop.
        match server.serve_forever().await {
            Err(error) if is_cancelled(&error) => {
                println!("no more connections");
                stopping.set();
                server.shutdown(GRACE).await?;
                println!("all requests have ended");
                ok(())
            }
            ended => ended,
        }
    })
}

/// One connection, until its client leaves or the server stops.
async fn serve(stream: PollStream, stopping: &Event) -> io::Result<()> {
    let connection = http1::Builder::new()
        .timer(HyperTimer)
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(stream, service_fn(answer));
    let mut connection = pin!(connection);
    let served = match select(connection.as_mut(), pin!(stopping.wait())).await {
        Either::Left((served, _)) => served,
        Either::Right(_) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    served.map_err(io::Error::other)
}

/// Bodies go through as they come, so none is too long.
async fn answer(
    request: Request<Incoming>,
) -> hyper::Result<Response<BoxBody<Bytes, hyper::Error>>> {
    let text = |text| Full::from(text).map_err(|never| match never {}).boxed();
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => (StatusCode::OK, text("hello\n")),
        (&Method::POST, "/echo") => (StatusCode::OK, request.into_body().boxed()),
        _ => (StatusCode::NOT_FOUND, text("there is / and /echo\n")),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    Ok(response)
}
