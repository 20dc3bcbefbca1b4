//! As much of HTTP/1.1 as a relay needs (RFC 9112): heads, and where bodies end.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Far more than any head of S3.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What is read of a body at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The head of a request or an answer, as it came.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// The first line, without its end.
    pub(super) start: String,
    /// Names and values, in order.
    pub(super) fields: Vec<(String, String)>,
}

/// How the end of a body is told (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length; 0 where there is no body.
    Length(u64),
    /// By an empty chunk.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Body<'a, R> {
    from: &'a mut R,
    framing: Framing,
    /// Of the body, or of the chunk under way.
    left: u64,
    is_over: bool,
}

impl Head {
    /// Reads a head; `None` if the connection ends before it begins.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut lines = Vec::new();
        let mut room = HEAD_BYTES_MAX;
        loop {
            let Some(line) = line(from, room).await? else {
                return match lines.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            };
            room -= line.len();
            match line.is_empty() {
                // An empty line before the first one is to be ignored (§2.2).
                true if lines.is_empty() => {}
                true => break,
                false => lines.push(line),
            }
        }
        let mut lines = lines.into_iter();
        let start = lines.next().expect("the loop ends behind a line");
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            Ok((name.to_owned(), value.trim().to_owned()))
        });
        Ok(Some(Self {
            start,
            fields: fields.collect::<io::Result<_>>()?,
        }))
    }

    /// The value of a field, whose name is given in small letters.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let field = self
            .fields
            .iter()
            .find(|(is, _)| is.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// Sets a field, or removes it.
    pub(super) fn set(&mut self, name: &str, value: Option<String>) {
        self.fields.retain(|(is, _)| !is.eq_ignore_ascii_case(name));
        let field = value.map(|value| (name.to_owned(), value));
        self.fields.extend(field);
    }

    /// The second word: a request's target, or an answer's status.
    pub(super) fn second(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// An answer's status.
    pub(super) fn status(&self) -> io::Result<u16> {
        let status = self.second().parse();
        status.map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// A request's method.
    pub(super) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// True if the sender ends the connection behind this message.
    pub(super) fn closes(&self) -> bool {
        self.field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// How the body of this request is framed.
    pub(super) fn request_framing(&self) -> io::Result<Framing> {
        Ok(self.framing()?.unwrap_or(Framing::Length(0)))
    }

    /// How the body of this answer to a request of `method` is framed.
    pub(super) fn answer_framing(&self, method: &str) -> io::Result<Framing> {
        let status = self.status()?;
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(Framing::Length(0));
        }
        Ok(self.framing()?.unwrap_or(Framing::Close))
    }

    /// The bytes of the head.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        text.into_bytes()
    }

    fn framing(&self) -> io::Result<Option<Framing>> {
        if let Some(coding) = self.field("transfer-encoding") {
            return match coding.eq_ignore_ascii_case("chunked") {
                true => Ok(Some(Framing::Chunked)),
                false => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        let len = self.field("content-length").map(str::parse).transpose();
        let len = len.map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(len.map(Framing::Length))
    }
}

impl<'a, R: AsyncBufRead + Unpin> Body<'a, R> {
    /// The body that comes next `from` a connection.
    pub(super) fn new(from: &'a mut R, framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(len) => len,
            Framing::Chunked => 0,
            Framing::Close => u64::MAX,
        };
        Self {
            from,
            framing,
            left,
            is_over: framing == Framing::Length(0),
        }
    }

    /// The next bytes of the content; `None` behind the last.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.left == 0 && self.framing == Framing::Chunked && !self.is_over {
            self.next_chunk().await?;
        }
        if self.is_over {
            return Ok(None);
        }
        let room = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(PIECE_BYTES_MAX);
        let mut piece = vec![0; room];
        let len = self.from.read(&mut piece).await?;
        piece.truncate(len);
        if len == 0 {
            return match self.framing {
                Framing::Close => Ok(None),
                Framing::Length(_) | Framing::Chunked => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        self.left -= len as u64;
        match self.framing {
            Framing::Length(_) => self.is_over = self.left == 0,
            // The line end behind the chunk.
            Framing::Chunked if self.left == 0 => drop(self.line().await?),
            Framing::Chunked | Framing::Close => {}
        }
        Ok(Some(piece))
    }

    /// Reads the head of a chunk, and behind the last one what trails.
    async fn next_chunk(&mut self) -> io::Result<()> {
        let head = self.line().await?;
        let len = head.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(len, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        self.is_over = self.left == 0;
        while self.is_over && !self.line().await?.is_empty() {}
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        let line = line(self.from, HEAD_BYTES_MAX).await?;
        line.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes a piece of a body; an empty one ends it.
pub(super) async fn write_piece(
    to: &mut (impl AsyncWrite + Unpin),
    framing: Framing,
    piece: &[u8],
) -> io::Result<()> {
    match framing {
        Framing::Length(_) | Framing::Close => to.write_all(piece).await,
        Framing::Chunked => {
            let head = format!("{:x}\r\n", piece.len());
            to.write_all(&[head.as_bytes(), piece, b"\r\n"].concat())
                .await
        }
    }
}

/// A line without its end; `None` if there is nothing more.
async fn line(
    from: &mut (impl AsyncBufRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut from = from.take(bytes_max as u64);
    if from.read_until(b'\n', &mut line).await? == 0 && bytes_max > 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let line = String::from_utf8(line);
    line.map(Some)
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(framing: Framing, mut bytes: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut body = Body::new(&mut bytes, framing);
        let mut content = Vec::new();
        while let Some(piece) = body.next().await? {
            content.extend(piece);
        }
        Ok((content, bytes.to_vec()))
    }

    #[tokio::test]
    async fn a_head_comes_out_as_it_went_in() {
        let text = b"GET /b/k?x-id=GetObject HTTP/1.1\r\nHost: a:1\r\nRange: bytes=0-1\r\n\r\nrest";
        let mut bytes = &text[..];
        let head = Head::read(&mut bytes).await.unwrap().unwrap();
        assert_eq!(bytes, b"rest");
        assert_eq!(head.to_bytes(), text[..text.len() - 4]);
        assert_eq!(
            (head.method(), head.second()),
            ("GET", "/b/k?x-id=GetObject")
        );
        assert_eq!(head.field("range"), Some("bytes=0-1"));
        assert_eq!(head.request_framing().unwrap(), Framing::Length(0));
    }

    #[tokio::test]
    async fn a_head_that_ends_early_or_never_is_an_error() {
        assert!(Head::read(&mut &b""[..]).await.unwrap().is_none());
        assert!(
            Head::read(&mut &b"GET / HTTP/1.1\r\nHost"[..])
                .await
                .is_err()
        );
        assert!(
            Head::read(&mut &b"GET / HTTP/1.1\r\nHost: a\r\n"[..])
                .await
                .is_err()
        );
        let endless = vec![b'x'; 2 * HEAD_BYTES_MAX];
        assert!(Head::read(&mut &endless[..]).await.is_err());
    }

    #[tokio::test]
    async fn a_body_ends_where_its_framing_says() {
        let whole = (b"abc".to_vec(), b"rest".to_vec());
        assert_eq!(body(Framing::Length(3), b"abcrest").await.unwrap(), whole);
        let chunked = b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\nTrailer: t\r\n\r\nrest";
        assert_eq!(body(Framing::Chunked, chunked).await.unwrap(), whole);
        assert_eq!(body(Framing::Close, b"abc").await.unwrap().0, b"abc");
        assert!(body(Framing::Length(5), b"abc").await.is_err());
        assert!(body(Framing::Chunked, b"3\r\nab").await.is_err());
        assert!(body(Framing::Chunked, b"3\r\nabc\r\n").await.is_err());
    }

    #[tokio::test]
    async fn an_answer_without_a_body_has_none() {
        let head = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n".as_bytes();
        let head = Head::read(&mut &head[..]).await.unwrap().unwrap();
        assert_eq!(head.answer_framing("GET").unwrap(), Framing::Length(0));
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".as_bytes();
        let head = Head::read(&mut &head[..]).await.unwrap().unwrap();
        assert_eq!(head.answer_framing("HEAD").unwrap(), Framing::Length(0));
        assert_eq!(head.answer_framing("GET").unwrap(), Framing::Length(9));
    }
}
