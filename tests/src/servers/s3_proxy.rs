//! An HTTP relay in front of an S3 server: counts content, and answers wrongly where it is told to.

mod relay;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use tokio::net::TcpListener;

use super::reactor::Reactor;
use super::s3::S3Server;
use super::s3_client::S3Client;

/// A relay on a port of its own. Dropping it drops its connections.
///
/// Requests go on unchanged: their signatures hold the address that the client sees, and the server
/// checks them against that. A slow line is a [`Proxy`](super::proxy::Proxy) in front of it.
#[derive(Debug)]
pub struct S3Proxy {
    address: SocketAddr,
    relay: Arc<Relay>,
    _reactor: Reactor,
}

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Kind {
    /// For the bytes of an object.
    Get,
    /// For what is known of an object or a bucket.
    Head,
    /// For a page of keys.
    List,
    /// Anything else.
    Other,
}

/// A request that came, and what became of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Request {
    /// Who asks.
    pub client: IpAddr,
    /// What it asks for.
    pub kind: S3Kind,
    /// The object; empty for the bucket.
    pub key: String,
    /// Its `Range`, as it came: `bytes=0-65535`.
    pub range: Option<String>,
    /// Its `If-Match`, as it came, with quotes.
    pub if_match: Option<String>,
    /// The query of its target, without the question mark.
    pub query: String,
    /// The status that the client saw; `None` while there is none.
    pub status: Option<u16>,
    /// How much body went to the client.
    pub body_bytes: u64,
    /// What was done to it.
    pub fault: Option<S3Fault>,
}

/// Sums over all requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct S3Counts {
    /// Requests of [`S3Kind::Get`].
    pub gets: u64,
    /// Requests of [`S3Kind::Head`].
    pub heads: u64,
    /// Requests of [`S3Kind::List`].
    pub lists: u64,
    /// Requests of [`S3Kind::Other`].
    pub others: u64,
    /// Bytes of objects that went to clients: bodies of GETs that were answered with 200 or 206.
    pub content_bytes: u64,
}

/// What is done to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Fault {
    /// The server is not asked: this status, with the code that S3 gives it, is the answer.
    Status(u16),
    /// The same with another code.
    Error(u16, &'static str),
    /// The connection ends without an answer.
    NoAnswer,
    /// The answer begins so much later.
    Delay(Duration),
    /// The connection ends after so many bytes of the body, if it is longer.
    Truncate(u64),
    /// After so many bytes of the body nothing more comes, until the client leaves.
    Stall(u64),
    /// The body is so many bytes longer than it should be, and the head says so.
    Lengthen(u64),
    /// The whole object is sent, with 200, whatever range is asked for.
    IgnoreRange,
}

/// Which requests a fault is for; the first of several that fit one request is taken.
#[derive(Clone, Debug)]
pub struct When {
    kind: S3Kind,
    key: Option<String>,
    skip: u32,
    times: u32,
}

/// What all connections share.
#[derive(Debug)]
struct Relay {
    target: SocketAddr,
    /// Signs requests of the relay's own, for a range that is ignored was signed too.
    signer: Client,
    requests: Mutex<Vec<S3Request>>,
    faults: Mutex<Vec<(When, S3Fault)>>,
}

impl S3Proxy {
    /// Starts a relay to `server`.
    ///
    /// # Panics
    /// If there is no port, here and below.
    pub fn start(server: &S3Server) -> Self {
        Self::in_front_of(server.address(), server)
    }

    /// Starts a relay to the server at `target`, which `client` speaks to, on the client's host.
    pub fn in_front_of(target: SocketAddr, client: &S3Client) -> Self {
        let reactor = Reactor::start("s3-proxy", client.host());
        let listener = reactor.run(TcpListener::bind((client.host().address(), 0)));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Arc::new(Relay {
            target,
            signer: client.sdk(),
            requests: Mutex::default(),
            faults: Mutex::default(),
        });
        reactor.spawn(relay::accept(Arc::clone(&relay), listener));
        Self {
            address,
            relay,
            _reactor: reactor,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does `fault` to the requests that fit `when`.
    pub fn inject(&self, when: When, fault: S3Fault) {
        self.relay.faults.lock().unwrap().push((when, fault));
    }

    /// Does nothing more to requests that come from now on.
    pub fn clear_faults(&self) {
        self.relay.faults.lock().unwrap().clear();
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<S3Request> {
        self.relay.requests.lock().unwrap().clone()
    }

    /// How many bytes of objects went to clients; those of a body that a client did not want to the
    /// end are counted as far as they were sent.
    pub fn content_bytes(&self) -> u64 {
        self.counts().content_bytes
    }

    /// The same for one client.
    pub fn content_bytes_to(&self, client: IpAddr) -> u64 {
        let is_its = |request: &S3Request| request.client == client;
        self.counts_of(is_its).content_bytes
    }

    /// Sums over all requests so far.
    pub fn counts(&self) -> S3Counts {
        self.counts_of(|_| true)
    }

    fn counts_of(&self, is_counted: impl Fn(&S3Request) -> bool) -> S3Counts {
        let mut counts = S3Counts::default();
        let requests = self.relay.requests.lock().unwrap();
        for request in requests.iter().filter(|request| is_counted(request)) {
            let count = match request.kind {
                S3Kind::Get => &mut counts.gets,
                S3Kind::Head => &mut counts.heads,
                S3Kind::List => &mut counts.lists,
                S3Kind::Other => &mut counts.others,
            };
            *count += 1;
            if request.is_content() {
                counts.content_bytes += request.body_bytes;
            }
        }
        counts
    }
}

impl S3Request {
    /// The range asked for, as offsets: the first and the one behind the last. `None` if there is
    /// none, or not one of this form.
    pub fn asked(&self) -> Option<std::ops::Range<u64>> {
        let (first, last) = self
            .range
            .as_ref()?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
    }

    fn is_content(&self) -> bool {
        self.kind == S3Kind::Get && matches!(self.status, Some(200 | 206))
    }
}

impl When {
    /// All requests of a kind.
    pub fn all(kind: S3Kind) -> Self {
        Self {
            kind,
            key: None,
            skip: 0,
            times: u32::MAX,
        }
    }

    /// Only those for this key.
    pub fn of(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Only behind the first so many.
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    /// Only so many.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Counts a request, and says whether it is one of them.
    fn takes(&mut self, request: &S3Request) -> bool {
        let fits = self.kind == request.kind
            && self.key.as_ref().is_none_or(|key| *key == request.key)
            && self.times > 0;
        if !fits {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}
