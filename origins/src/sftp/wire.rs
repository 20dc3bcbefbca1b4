//! The packets of SFTP version 3 (draft-ietf-secsh-filexfer-02), as far as reading needs them.
//!
//! Pure: bytes in, values out. Names are bytes, as the draft leaves their encoding open (§2).

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest packet taken: 256 KiB is the limit of OpenSSH's own server and client, and a reply
/// to a READ has a few bytes around its data.
pub(crate) const PACKET_BYTES_MAX: usize = (256 << 10) + 1024;

/// The longest handle (§6.2).
const HANDLE_BYTES_MAX: usize = 256;

/// The name of the extension that tells a server's limits (OpenSSH's PROTOCOL, §4.8).
const LIMITS: &[u8] = b"limits@openssh.com";

/// File types within the mode (POSIX `S_IFMT` and its values).
const TYPE_MASK: u32 = 0o170_000;

/// What is wrong with bytes that a server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const CUT_OFF: Malformed = Malformed("a packet is cut off");

/// A question to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    /// Opens a file for reading.
    Open(&'a [u8]),
    Close(&'a [u8]),
    Read {
        handle: &'a [u8],
        offset: u64,
        len: u32,
    },
    Lstat(&'a [u8]),
    Stat(&'a [u8]),
    Fstat(&'a [u8]),
    OpenDir(&'a [u8]),
    ReadDir(&'a [u8]),
    RealPath(&'a [u8]),
    Limits,
}

impl Request<'_> {
    /// True if the answer is a handle, which must be closed again.
    pub(crate) fn opens(&self) -> bool {
        matches!(self, Self::Open(_) | Self::OpenDir(_))
    }

    /// Appends the packet.
    pub(crate) fn encode(&self, id: u32, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(0);
        out.put_u8(self.code());
        out.put_u32(id);
        match *self {
            Self::Open(path) => {
                put_string(out, path);
                out.put_u32(1); // SSH_FXF_READ
                out.put_u32(0); // no attributes
            }
            Self::Read {
                handle,
                offset,
                len,
            } => {
                put_string(out, handle);
                out.put_u64(offset);
                out.put_u32(len);
            }
            Self::Close(text)
            | Self::Lstat(text)
            | Self::Stat(text)
            | Self::Fstat(text)
            | Self::OpenDir(text)
            | Self::ReadDir(text)
            | Self::RealPath(text) => put_string(out, text),
            Self::Limits => put_string(out, LIMITS),
        }
        set_len(out, start);
    }

    fn code(&self) -> u8 {
        match self {
            Self::Open(_) => 3,
            Self::Close(_) => 4,
            Self::Read { .. } => 5,
            Self::Lstat(_) => 7,
            Self::Fstat(_) => 8,
            Self::OpenDir(_) => 11,
            Self::ReadDir(_) => 12,
            Self::RealPath(_) => 16,
            Self::Stat(_) => 17,
            Self::Limits => 200,
        }
    }
}

/// The first packet of a client: version 3.
pub(crate) fn init() -> Bytes {
    Bytes::from_static(&[0, 0, 0, 5, 1, 0, 0, 0, 3])
}

/// A server's answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// One of the `status` codes.
    Status(u32),
    Handle(Bytes),
    Data(Bytes),
    Names(Vec<Name>),
    Attrs(Attrs),
    Extended(Bytes),
}

/// The codes of a status reply that mean something to us (§7).
pub(crate) mod status {
    pub(crate) const OK: u32 = 0;
    pub(crate) const EOF: u32 = 1;
    pub(crate) const NO_SUCH_FILE: u32 = 2;
    pub(crate) const PERMISSION_DENIED: u32 = 3;
    pub(crate) const FAILURE: u32 = 4;
    pub(crate) const NO_CONNECTION: u32 = 6;
    pub(crate) const CONNECTION_LOST: u32 = 7;
}

/// One entry of a directory, or a resolved path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) name: Bytes,
    pub(crate) attrs: Attrs,
}

/// What a server says of a file; each may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attrs {
    pub(crate) size: Option<u64>,
    /// Type and permission bits.
    pub(crate) mode: Option<u32>,
    /// Seconds since 1970.
    pub(crate) mtime: Option<u32>,
}

/// What kind of thing a mode names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    File,
    Dir,
    Link,
    /// A device, socket or FIFO.
    Other,
    /// The server does not say.
    Unknown,
}

impl Attrs {
    pub(crate) fn file_type(&self) -> FileType {
        match self.mode.unwrap_or(0) & TYPE_MASK {
            0 => FileType::Unknown,
            0o100_000 => FileType::File,
            0o040_000 => FileType::Dir,
            0o120_000 => FileType::Link,
            _ => FileType::Other,
        }
    }
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// True if it answers [`Request::Limits`].
    pub(crate) has_limits: bool,
}

/// A server's limits; 0 means that it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) read_bytes: u64,
    pub(crate) handles: u64,
}

impl Limits {
    /// Reads the answer to [`Request::Limits`].
    pub(crate) fn decode(mut body: Bytes) -> Result<Self, Malformed> {
        let _packet_bytes = take_u64(&mut body)?;
        let read_bytes = take_u64(&mut body)?;
        let _write_bytes = take_u64(&mut body)?;
        let handles = take_u64(&mut body)?;
        Ok(Self {
            read_bytes,
            handles,
        })
    }
}

/// Reads a server's first packet, without its length.
pub(crate) fn decode_version(mut packet: Bytes) -> Result<Version, Malformed> {
    if take_u8(&mut packet)? != 2 {
        return Err(Malformed("its first packet is no version"));
    }
    // A server answers with the lower of both versions (§4).
    if take_u32(&mut packet)? != 3 {
        return Err(Malformed("it does not speak version 3 of SFTP"));
    }
    let mut version = Version { has_limits: false };
    while !packet.is_empty() {
        let name = take_string(&mut packet)?;
        let data = take_string(&mut packet)?;
        version.has_limits |= name == LIMITS && data == b"1"[..];
    }
    Ok(version)
}

/// Reads a reply and the id of its request from a packet without its length.
pub(crate) fn decode(mut packet: Bytes) -> Result<(u32, Reply), Malformed> {
    let code = take_u8(&mut packet)?;
    let id = take_u32(&mut packet)?;
    let reply = match code {
        // The message and language of a status are for people; and old servers leave them out.
        101 => Reply::Status(take_u32(&mut packet)?),
        102 => Reply::Handle(take_handle(&mut packet)?),
        103 => Reply::Data(take_string(&mut packet)?),
        104 => Reply::Names(take_names(&mut packet)?),
        105 => Reply::Attrs(take_attrs(&mut packet)?),
        201 => Reply::Extended(packet),
        _ => return Err(Malformed("a packet is of an unknown type")),
    };
    Ok((id, reply))
}

/// Cuts the bytes of a channel into packets. Holds one packet and what was pushed last.
#[derive(Debug, Default)]
pub(crate) struct Framer {
    input: Bytes,
    header: BytesMut,
    packet: BytesMut,
    /// The length of the packet under way; 0 while its header is.
    len: usize,
}

impl Framer {
    /// Adds what came next; only once [`Framer::next`] has taken all that came before.
    pub(crate) fn push(&mut self, input: Bytes) {
        debug_assert!(self.input.is_empty(), "input is taken before more comes");
        self.input = input;
    }

    /// The next packet without its length, if it is whole.
    ///
    /// # Errors
    /// For a length that no packet has. Nothing is allocated for it.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.len == 0 {
            let wanted = (4 - self.header.len()).min(self.input.len());
            self.header.extend_from_slice(&self.input.split_to(wanted));
            if self.header.len() < 4 {
                return Ok(None);
            }
            let len = self.header.get_u32() as usize;
            self.header.clear();
            if !(5..=PACKET_BYTES_MAX).contains(&len) {
                return Err(Malformed("a packet has an impossible length"));
            }
            self.len = len;
            self.packet = BytesMut::with_capacity(len);
        }
        let wanted = (self.len - self.packet.len()).min(self.input.len());
        self.packet.extend_from_slice(&self.input.split_to(wanted));
        if self.packet.len() < self.len {
            return Ok(None);
        }
        self.len = 0;
        Ok(Some(std::mem::take(&mut self.packet).freeze()))
    }
}

fn put_string(out: &mut BytesMut, text: &[u8]) {
    out.put_u32(u32::try_from(text.len()).expect("paths and handles are short"));
    out.put_slice(text);
}

fn set_len(out: &mut BytesMut, start: usize) {
    let len = u32::try_from(out.len() - start - 4).expect("a request is short");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn take_u8(packet: &mut Bytes) -> Result<u8, Malformed> {
    packet.try_get_u8().map_err(|_| CUT_OFF)
}

fn take_u32(packet: &mut Bytes) -> Result<u32, Malformed> {
    packet.try_get_u32().map_err(|_| CUT_OFF)
}

fn take_u64(packet: &mut Bytes) -> Result<u64, Malformed> {
    packet.try_get_u64().map_err(|_| CUT_OFF)
}

fn take_string(packet: &mut Bytes) -> Result<Bytes, Malformed> {
    let len = take_u32(packet)? as usize;
    if len > packet.len() {
        return Err(CUT_OFF);
    }
    Ok(packet.split_to(len))
}

fn take_handle(packet: &mut Bytes) -> Result<Bytes, Malformed> {
    let handle = take_string(packet)?;
    if handle.len() > HANDLE_BYTES_MAX {
        return Err(Malformed("a handle is too long"));
    }
    Ok(handle)
}

fn take_names(packet: &mut Bytes) -> Result<Vec<Name>, Malformed> {
    // Two lengths and the flags: what the shortest entry takes.
    const NAME_BYTES_MIN: usize = 12;
    let count = take_u32(packet)? as usize;
    if count > packet.len() / NAME_BYTES_MIN {
        return Err(CUT_OFF);
    }
    let mut names = Vec::with_capacity(count);
    for _ in 0..count {
        let name = take_string(packet)?;
        let _long_name = take_string(packet)?;
        let attrs = take_attrs(packet)?;
        names.push(Name { name, attrs });
    }
    Ok(names)
}

fn take_attrs(packet: &mut Bytes) -> Result<Attrs, Malformed> {
    let flags = take_u32(packet)?;
    let mut attrs = Attrs::default();
    if flags & 1 != 0 {
        attrs.size = Some(take_u64(packet)?);
    }
    if flags & 2 != 0 {
        take_u64(packet)?; // user and group
    }
    if flags & 4 != 0 {
        attrs.mode = Some(take_u32(packet)?);
    }
    if flags & 8 != 0 {
        take_u32(packet)?; // access time
        attrs.mtime = Some(take_u32(packet)?);
    }
    if flags & 0x8000_0000 != 0 {
        for _ in 0..take_u32(packet)? {
            take_string(packet)?;
            take_string(packet)?;
        }
    }
    Ok(attrs)
}

#[cfg(test)]
#[path = "wire/tests.rs"]
mod tests;
