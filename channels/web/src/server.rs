//! The HTTP server: connections that are few, small and do not dawdle.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bus::Bus;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Connections at once; a browser opens six, and each open page holds one for its stream.
const MAX_CONNECTIONS: usize = 256;

/// Longest head of a request, and longest pause between two on one connection: a connection that says nothing is closed.
const HEAD: Duration = Duration::from_secs(15);

/// Largest head of a request in bytes; filters are short.
const MAX_HEAD: usize = 16 * 1024;

/// Most header fields of a request; browsers send about twenty.
const MAX_FIELDS: usize = 64;

/// Pause after a connection that could not be accepted, for want of file descriptors for example.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves until the bus drains.
pub(crate) async fn run(bus: Bus, listener: TcpListener, routes: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, _)) => {
                let routes = routes.clone();
                bus.spawn(async move {
                    serve(socket, routes).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, routes: Router) {
    // Each piece of a stream is to go out at once.
    let _ = socket.set_nodelay(true);
    let routes = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let routes = TowerToHyperService::new(routes.clone());
        async move { Ok::<_, Infallible>(answer(routes, request.map(Body::new)).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(socket), routes);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(routes: TowerToHyperService<Router>, request: hyper::Request<Body>) -> axum::response::Response {
    use hyper::service::Service as _;
    let Ok(answer) = routes.call(request).await;
    answer
}
