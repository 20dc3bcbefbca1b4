//! One request after the other, from a client to the server and back.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{Relay, S3Fault, S3Kind, S3Request};
use crate::servers::http::{Body, Framing, Head, write_piece};
use crate::servers::s3_client::BUCKET;

/// How long a request that the relay signs itself is good for.
const SIGNATURE_AGE_MAX: Duration = Duration::from_secs(600);
/// Queries that ask for something else than an object's bytes or head.
const OTHER_QUERIES: [&str; 8] = [
    "acl",
    "attributes",
    "legal-hold",
    "retention",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
];

type FromClient = BufReader<OwnedReadHalf>;

/// What is to become of a connection behind an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
    Stall,
}

/// Serves every connection that comes.
pub(super) async fn accept(relay: Arc<Relay>, listener: TcpListener) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            // An end that breaks the connection is seen by the other end.
            let _ = relay.serve(client).await;
        });
    }
}

impl Relay {
    async fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (from_client, mut to_client) = client.into_split();
        let mut from_client = BufReader::new(from_client);
        while let Some(head) = Head::read(&mut from_client).await? {
            let keeps = !head.closes();
            let then = self
                .exchange(head, &mut from_client, &mut to_client)
                .await?;
            match then {
                Then::GoOn if keeps => {}
                Then::GoOn | Then::Close => break,
                // Until the client has had enough.
                Then::Stall => {
                    while !from_client.fill_buf().await?.is_empty() {
                        let len = from_client.buffer().len();
                        from_client.consume(len);
                    }
                }
            }
        }
        Ok(())
    }

    /// One request and its answer.
    async fn exchange(
        &self,
        mut head: Head,
        from_client: &mut FromClient,
        to_client: &mut OwnedWriteHalf,
    ) -> io::Result<Then> {
        let request = describe(&head, to_client.peer_addr()?.ip());
        let (kind, key) = (request.kind, request.key.clone());
        let (number, fault) = self.begin(request);
        let code = match &fault {
            Some(S3Fault::Status(status)) => Some((*status, code(*status, kind))),
            Some(S3Fault::Error(status, code)) => Some((*status, *code)),
            _ => None,
        };
        if let Some((status, code)) = code {
            self.update(number, |request| request.status = Some(status));
            return refuse(&head, status, code, from_client, to_client).await;
        }
        match &fault {
            Some(S3Fault::NoAnswer) => return Ok(Then::Close),
            Some(S3Fault::IgnoreRange) => self.sign_unranged(&mut head, &key).await,
            _ => {}
        }
        // A connection for each request: which of its ends broke is then never in doubt.
        let server = TcpStream::connect(self.target).await?;
        server.set_nodelay(true)?;
        let (from_server, mut to_server) = server.into_split();
        let mut from_server = BufReader::new(from_server);
        let mut is_sent = false;
        let then = {
            let framing = head.request_framing()?;
            let upload = async {
                to_server.write_all(&head.to_bytes()).await?;
                let mut body = Body::new(from_client, framing);
                while let Some(piece) = body.next().await? {
                    write_piece(&mut to_server, framing, &piece).await?;
                }
                match framing {
                    Framing::Chunked => write_piece(&mut to_server, framing, &[]).await,
                    Framing::Length(_) | Framing::Close => Ok(()),
                }
            };
            let method = head.method();
            let answer = self.answer(number, method, fault.as_ref(), &mut from_server, to_client);
            tokio::pin!(upload, answer);
            // The server may ask for the body first, and may answer before it has all of it.
            loop {
                tokio::select! {
                    sent = &mut upload, if !is_sent => {
                        sent?;
                        is_sent = true;
                    }
                    then = &mut answer => break then?,
                }
            }
        };
        // What is left of a body is no request.
        Ok(if is_sent { then } else { Then::Close })
    }

    /// Relays the server's answer.
    async fn answer(
        &self,
        number: usize,
        method: &str,
        fault: Option<&S3Fault>,
        from_server: &mut BufReader<OwnedReadHalf>,
        to_client: &mut OwnedWriteHalf,
    ) -> io::Result<Then> {
        let mut head = loop {
            let head = Head::read(from_server).await?;
            let head = head.ok_or(io::ErrorKind::UnexpectedEof)?;
            if head.status()? >= 200 {
                break head;
            }
            to_client.write_all(&head.to_bytes()).await?;
        };
        if let Some(S3Fault::Delay(delay)) = fault {
            tokio::time::sleep(*delay).await;
        }
        let (status, framing) = (head.status()?, head.answer_framing(method)?);
        let mut body = Body::new(from_server, framing);
        let mut extra = 0;
        if let Some(S3Fault::Lengthen(bytes)) = fault {
            extra = *bytes;
            if let Framing::Length(len) = framing {
                head.set("Content-Length", Some((len + extra).to_string()));
            }
        }
        self.update(number, |request| request.status = Some(status));
        to_client.write_all(&head.to_bytes()).await?;
        let (mut left, then) = match fault {
            Some(S3Fault::Truncate(bytes)) => (*bytes, Then::Close),
            Some(S3Fault::Stall(bytes)) => (*bytes, Then::Stall),
            _ => (u64::MAX, Then::GoOn),
        };
        while let Some(mut piece) = body.next().await? {
            let is_last = piece.len() as u64 > left;
            if is_last {
                piece.truncate(usize::try_from(left).unwrap());
            }
            left -= piece.len() as u64;
            self.send(number, framing, &piece, to_client).await?;
            if is_last {
                return Ok(then);
            }
        }
        if extra > 0 {
            let more = vec![b'+'; usize::try_from(extra).unwrap()];
            self.send(number, framing, &more, to_client).await?;
        }
        if framing == Framing::Chunked {
            write_piece(to_client, framing, &[]).await?;
        }
        let is_last = head.closes() || framing == Framing::Close;
        Ok(if is_last { Then::Close } else { Then::GoOn })
    }

    /// Sends a piece of a body, and counts it first: whoever has received it finds it counted.
    async fn send(
        &self,
        number: usize,
        framing: Framing,
        piece: &[u8],
        to_client: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let len = piece.len() as u64;
        self.update(number, |request| request.body_bytes += len);
        let sent = write_piece(to_client, framing, piece).await;
        if sent.is_err() {
            self.update(number, |request| request.body_bytes -= len);
        }
        sent
    }

    /// Notes a request; returns its number and what is to be done to it.
    fn begin(&self, mut request: S3Request) -> (usize, Option<S3Fault>) {
        let mut faults = self.faults.lock().unwrap();
        let mut fitting = faults.iter_mut();
        let fault = fitting.find_map(|(when, fault)| when.takes(&request).then_some(fault));
        request.fault = fault.cloned();
        let fault = request.fault.clone();
        let mut requests = self.requests.lock().unwrap();
        requests.push(request);
        (requests.len() - 1, fault)
    }

    fn update(&self, number: usize, change: impl FnOnce(&mut S3Request)) {
        change(&mut self.requests.lock().unwrap()[number]);
    }

    /// Turns a request for a range into one for the whole object.
    async fn sign_unranged(&self, head: &mut Head, key: &str) {
        let config = PresigningConfig::expires_in(SIGNATURE_AGE_MAX).unwrap();
        let request = self.signer.get_object().bucket(BUCKET).key(key);
        let request = request.presigned(config).await.unwrap();
        let url = request.uri().to_owned();
        let target = url.find("/music").expect("the bucket stands in the path");
        let if_match = head.field("if-match").map(str::to_owned);
        head.start = format!("GET {} HTTP/1.1", &url[target..]);
        head.fields = vec![("Host".to_owned(), self.target.to_string())];
        head.set("If-Match", if_match);
    }
}

/// What a request is, by its head.
fn describe(head: &Head, client: IpAddr) -> S3Request {
    let target = head.second();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.trim_start_matches('/');
    let (_, key) = path.split_once('/').unwrap_or((path, ""));
    let asks = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next() == Some(name))
    };
    let kind = match (head.method(), key.is_empty()) {
        ("GET", false) if !OTHER_QUERIES.into_iter().any(asks) => S3Kind::Get,
        ("GET", true) if asks("list-type") => S3Kind::List,
        ("HEAD", _) => S3Kind::Head,
        _ => S3Kind::Other,
    };
    S3Request {
        client,
        kind,
        key: decoded(key),
        range: head.field("range").map(str::to_owned),
        if_match: head.field("if-match").map(str::to_owned),
        query: query.to_owned(),
        status: None,
        body_bytes: 0,
        fault: None,
    }
}

/// Percent-decodes a key.
fn decoded(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = key.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Answers in the server's place.
async fn refuse(
    head: &Head,
    status: u16,
    code: &str,
    from_client: &mut FromClient,
    to_client: &mut OwnedWriteHalf,
) -> io::Result<Then> {
    // A client that asks before it sends its body does not send it now.
    let is_asking = head.field("expect").is_some();
    if !is_asking {
        let mut body = Body::new(from_client, head.request_framing()?);
        while body.next().await?.is_some() {}
    }
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>injected</Message></Error>"
    );
    let len = body.len();
    let mut answer = format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len}\r\n\r\n"
    );
    if head.method() != "HEAD" {
        answer += &body;
    }
    to_client.write_all(answer.as_bytes()).await?;
    Ok(if is_asking { Then::Close } else { Then::GoOn })
}

/// The code that S3 gives a status.
fn code(status: u16, kind: S3Kind) -> &'static str {
    match (status, kind) {
        (403, _) => "AccessDenied",
        (404, S3Kind::List) => "NoSuchBucket",
        (404, _) => "NoSuchKey",
        (412, _) => "PreconditionFailed",
        (416, _) => "InvalidRange",
        (429 | 503, _) => "SlowDown",
        (500, _) => "InternalError",
        _ => "Injected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kind(request: &str) -> (S3Kind, String) {
        let text = format!("{request} HTTP/1.1\r\n\r\n");
        let head = Head::read(&mut text.as_bytes()).await.unwrap().unwrap();
        let request = describe(&head, [127, 0, 0, 1].into());
        (request.kind, request.key)
    }

    #[tokio::test]
    async fn requests_are_told_apart() {
        let key = |text: &str| text.to_owned();
        assert_eq!(
            kind("GET /b/a%20b/%C3%A9?x-id=GetObject").await,
            (S3Kind::Get, key("a b/é"))
        );
        assert_eq!(kind("GET /b/k?tagging").await.0, S3Kind::Other);
        assert_eq!(
            kind("GET /b?list-type=2&prefix=a").await,
            (S3Kind::List, key(""))
        );
        assert_eq!(kind("GET /b/?list-type=2").await.0, S3Kind::List);
        assert_eq!(kind("GET /b?location").await.0, S3Kind::Other);
        assert_eq!(kind("HEAD /b/k").await, (S3Kind::Head, key("k")));
        assert_eq!(kind("PUT /b/k").await.0, S3Kind::Other);
        assert_eq!(kind("GET /").await.0, S3Kind::Other);
    }
}
