//! The listener for monitors: health over gRPC and metrics over HTTP on one TCP port, and nothing
//! else.
//!
//! Nobody who reaches the port is asked who they are, so it is not there unless configured, tells
//! numbers only, and every connection is bounded in what it may ask and for how long.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use musicfs_core::error::with_causes;
use prometheus::{TEXT_FORMAT, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tonic::codegen::{Body as HttpBody, StdError};
use tonic_health::pb::health_server::{Health, HealthServer};
use tower::ServiceExt;

use crate::error::ControlError;
use crate::metrics::Snapshot;
use crate::{ControlContext, END_WAIT_MAX};

/// Connections at a time; others wait in the system's queue. Monitors are few.
const CONNECTIONS_MAX: usize = 64;

/// How long a new connection may take to its first request, and any to the end of a header.
const REQUEST_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a connection may last. Monitors connect again; whoever holds one for nothing lets go.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// Requests of one connection at a time, over HTTP/2.
const STREAMS_MAX: u32 = 16;

/// Bytes of a request's header; those of monitors have some hundred.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Bytes of a request to the health service: the name of a service.
const MESSAGE_BYTES_MAX: usize = 1 << 10;

/// Bytes that a client may send ahead of being read, over HTTP/2.
const WINDOW_BYTES: u32 = 64 << 10;

/// How long after the system refused a connection the next is accepted.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where metrics are.
const METRICS_PATH: &str = "/metrics";

/// What the paths of the health service start with.
const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";

/// A TCP port that monitors can connect to.
pub struct MetricsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl MetricsListener {
    /// Listens on `address`; with port 0 on a free one, which [`MetricsListener::address`] tells.
    ///
    /// # Errors
    /// [`ControlError::Listen`] if the system refuses.
    pub async fn bind(address: SocketAddr) -> Result<Self, ControlError> {
        let refused = |source| ControlError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `context.stopping` is cancelled, and a little longer.
    pub(crate) async fn serve<H: Health>(self, context: ControlContext, health: HealthServer<H>) {
        let stopping = context.stopping.clone();
        let monitor = Arc::new(Monitor {
            context,
            health: health.max_decoding_message_size(MESSAGE_BYTES_MAX),
            asking: Mutex::new(()),
        });
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = async {
                let slot = slots.clone().acquire_owned().await;
                (slot, self.listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = stopping.cancelled() => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (monitor, stopping) = (monitor.clone(), stopping.clone());
                    connections.spawn(async move {
                        converse(stream, monitor, stopping).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics was not accepted");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// What answers.
struct Monitor<H> {
    context: ControlContext,
    health: HealthServer<H>,
    /// Held while the metrics are put together: once at a time is often enough.
    asking: Mutex<()>,
}

/// Serves one connection to its end, which is not far.
async fn converse<H: Health>(
    stream: TcpStream,
    monitor: Arc<Monitor<H>>,
    stopping: CancellationToken,
) {
    let asked = Arc::new(Notify::new());
    let has_asked = asked.clone();
    let answer = tower::service_fn(move |request| {
        has_asked.notify_one();
        let monitor = monitor.clone();
        async move { Ok::<_, Infallible>(monitor.answer(request).await) }
    });
    let builder = builder();
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(answer));
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = asked.notified() => {}
        // hyper itself would wait for ever for the first bytes, which tell the protocol.
        () = sleep(REQUEST_WAIT_MAX) => return,
        () = stopping.cancelled() => {}
    }
    tokio::select! {
        _ = connection.as_mut() => return,
        () = sleep(CONNECTION_AGE_MAX) => {}
        () = stopping.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // Whoever does not let go is cut off.
    let _ = timeout(END_WAIT_MAX, connection).await;
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_WAIT_MAX)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(REQUEST_WAIT_MAX)
        .keep_alive_timeout(REQUEST_WAIT_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    builder
}

impl<H: Health> Monitor<H> {
    async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let path = request.uri().path();
        if path.starts_with(HEALTH_PREFIX) {
            let answered = self.health.clone().oneshot(request).await;
            return answered.unwrap_or_else(|never| match never {});
        }
        match (path, request.method()) {
            (METRICS_PATH, &Method::GET | &Method::HEAD) => self.metrics().await,
            // Empty, for gRPC clients would take a text for a message. To them it is UNIMPLEMENTED.
            _ => plain(StatusCode::NOT_FOUND, String::new()),
        }
    }

    async fn metrics(&self) -> Response<Body> {
        let _one = self.asking.lock().await;
        let context = self.context.clone();
        // It asks the index, which may wait for the disk.
        let taken = tokio::task::spawn_blocking(move || Snapshot::take(&context)).await;
        let reason = match taken {
            Ok(Ok(snapshot)) => match TextEncoder::new().encode_to_string(&snapshot.families()) {
                Ok(text) => return plain(StatusCode::OK, text),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) => with_causes(&error),
            Err(ended) => ended.to_string(),
        };
        tracing::warn!(reason, "the metrics cannot be told");
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics cannot be told; the log says why\n".to_owned(),
        )
    }
}

/// An answer in the text format of metrics, which is plain text.
fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    let format = HeaderValue::from_static(TEXT_FORMAT);
    response.headers_mut().insert(header::CONTENT_TYPE, format);
    response
}

#[cfg(test)]
mod tests;
