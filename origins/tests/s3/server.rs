//! An HTTP server that answers what a test tells it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request that has arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: String,
    /// Counts the connections, from 0.
    pub(crate) connection: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The value of a parameter of the query, as it was sent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// What is answered: a head and a body as they go over the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    end: End,
}

/// What happens behind the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    /// The connection waits for the next request.
    #[default]
    Keep,
    Close,
    /// Nothing is sent any more, for ever.
    Hang,
    /// The body comes again and again.
    Repeat,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// A body with its length in front.
    pub(crate) fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.header("Content-Length", body.len().to_string())
            .raw_body(body)
    }

    /// A body, of which the headers say something else, or nothing.
    pub(crate) fn raw_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn then_close(mut self) -> Self {
        self.end = End::Close;
        self
    }

    pub(crate) fn then_hang(mut self) -> Self {
        self.end = End::Hang;
        self
    }

    pub(crate) fn for_ever(mut self) -> Self {
        self.end = End::Repeat;
        self
    }

    /// Nothing at all.
    pub(crate) fn silence() -> Self {
        Self::default().then_hang()
    }

    async fn send(&self, stream: &mut TcpStream, is_head: bool) -> std::io::Result<End> {
        if self.status == 0 {
            return Ok(self.end);
        }
        let mut head = format!("HTTP/1.1 {} Told\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all((head + "\r\n").as_bytes()).await?;
        if !is_head {
            stream.write_all(&self.body).await?;
        }
        if self.end == End::Repeat {
            loop {
                stream.write_all(&self.body).await?;
            }
        }
        Ok(self.end)
    }
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// The server. Ends when dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move {
                    // The other side may leave at any time.
                    let _ = serve(stream, connection, &*script, &log).await;
                });
            }
        });
        Self { url, asked, task }
    }

    /// Answers every request alike.
    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    script: &Script,
    log: &Mutex<Vec<Asked>>,
) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8(input.drain(..end).collect()).unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let asked = Asked {
            method: word(),
            target: word(),
            headers: headers.to_owned(),
            connection,
        };
        let reply = script(&asked);
        log.lock().unwrap().push(asked.clone());
        match reply.send(&mut stream, asked.method == "HEAD").await? {
            End::Keep => {}
            End::Close | End::Repeat => return Ok(()),
            End::Hang => std::future::pending().await,
        }
    }
}
