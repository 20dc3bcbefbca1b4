//! An SSH connection: TCP, the host key, and a channel with SFTP at its other end.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Config, Handle, Msg, Session};
use russh::keys::{Algorithm, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, Preferred, cipher};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use musicfs_core::origin::Refusal;

use super::auth::Keys;
use super::failure::Failure;
use super::known_hosts::{self, KnownHost};
use super::{SftpConfig, lock};

/// A server that has been silent for so long is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Asked so often in vain, the connection is given up.
const KEEP_ALIVES_MAX: usize = 2;
/// What the server may send ahead on a channel: two streams' worth of pieces, so that a link of
/// 1 Gbit/s and 60 ms is kept full (the client grants more when half of it is used up).
const WINDOW_BYTES: u32 = 8 << 20;
/// The payload of one SSH packet; every implementation takes 32 KiB (RFC 4253 §6.1), and OpenSSH
/// sends no more.
const PACKET_BYTES: u32 = 32 << 10;
/// Channel packets on their way from the connection's task to ours: one piece.
const PACKETS_MAX: usize = 16;

/// What a connection has shown of itself.
pub(crate) struct Transport {
    pub(crate) link: Handle<Host>,
    pub(crate) channel: Channel<Msg>,
    /// The SHA-256 of the host key.
    pub(crate) fingerprint: String,
}

/// Connects and authenticates, and asks for SFTP. Cancelling `end` cuts the connection at once.
pub(crate) async fn connect(
    config: &Arc<SftpConfig>,
    end: &CancellationToken,
) -> Result<Transport, Failure> {
    let (known, keys) = read_files(config).await?;
    let unreachable = |error| Failure::Unreachable(Arc::new(error));
    let tcp = TcpStream::connect((config.host.as_str(), config.port))
        .await
        .map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let stream = Severable {
        tcp,
        end: Box::pin(end.clone().cancelled_owned()),
    };
    let verdict = Arc::new(Mutex::new(Verdict::default()));
    let client = client_config(known.algorithms());
    let host = Host {
        known,
        verdict: Arc::clone(&verdict),
    };
    let connected = client::connect_stream(Arc::new(client), stream, host).await;
    let verdict = std::mem::take(&mut *lock(&verdict));
    if let Some(refusal) = verdict.refusal {
        return Err(Failure::Refused(refusal));
    }
    let mut link = connected.map_err(handshake_failure)?;
    keys.authenticate(&mut link, &config.user, config.agent_socket.as_deref())
        .await?;
    let channel = open_channel(&link).await.map_err(handshake_failure)?;
    Ok(Transport {
        link,
        channel,
        fingerprint: verdict.fingerprint,
    })
}

/// The cause of an error of the SSH library.
pub(crate) fn io_error(error: russh::Error) -> io::Error {
    match error {
        russh::Error::IO(error) => error,
        other => io::Error::new(io::ErrorKind::ConnectionAborted, other),
    }
}

/// Decides about the host's key, and lets the server open nothing by itself.
pub(crate) struct Host {
    known: KnownHost,
    verdict: Arc<Mutex<Verdict>>,
}

#[derive(Default)]
struct Verdict {
    fingerprint: String,
    refusal: Option<Refusal>,
}

impl Host {
    fn judge(&self, key: &PublicKey) -> bool {
        let refusal = self.known.check(key).err();
        let is_good = refusal.is_none();
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Verdict {
            fingerprint: known_hosts::fingerprint(key),
            refusal,
        };
        is_good
    }
}

/// Declines a channel that the server wants to open: dropping the handle says no.
macro_rules! decline {
    ($name:ident $(, $argument:ty)*) => {
        async fn $name(
            &mut self,
            _: Channel<Msg>,
            $(_: $argument,)*
            reply: ChannelOpenHandle,
            _: &mut Session,
        ) -> Result<(), Self::Error> {
            drop(reply);
            Ok(())
        }
    };
}

impl client::Handler for Host {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => Ok(self.judge(key)),
            // None is asked for.
            PublicKeyOrCertificate::Certificate(_) => Ok(false),
        }
    }

    decline!(server_channel_open_forwarded_tcpip, &str, u32, &str, u32);
    decline!(server_channel_open_forwarded_streamlocal, &str);
    decline!(server_channel_open_agent_forward);
    decline!(server_channel_open_session);
    decline!(server_channel_open_direct_tcpip, &str, u32, &str, u32);
    decline!(server_channel_open_direct_streamlocal, &str);
    decline!(server_channel_open_x11, &str, u32);
}

/// A TCP connection that ends when its token is cancelled, whoever holds it.
struct Severable {
    tcp: TcpStream,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Severable {
    fn poll_end(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_end(context)?;
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_end(context)?;
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

async fn read_files(config: &Arc<SftpConfig>) -> Result<(KnownHost, Keys), Failure> {
    let config = Arc::clone(config);
    let read = move || {
        let known = KnownHost::read(&config.known_hosts, &config.host, config.port);
        (known, Keys::read(&config.key_files))
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|stopped| Failure::Unreachable(Arc::new(stopped.into())))
}

async fn open_channel(link: &Handle<Host>) -> Result<Channel<Msg>, russh::Error> {
    let channel = link.channel_open_session().await?;
    // The answer comes before the first packet of SFTP: no need to wait for it.
    channel.request_subsystem(true, "sftp").await?;
    Ok(channel)
}

fn client_config(algorithms: Vec<Algorithm>) -> Config {
    Config {
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: PACKETS_MAX,
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: KEEP_ALIVES_MAX,
        preferred: Preferred {
            key: Cow::Owned(algorithms),
            cipher: Cow::Borrowed(ciphers()),
            // Music does not shrink.
            compression: Cow::Borrowed(&[russh::compression::NONE]),
            ..Preferred::DEFAULT
        },
        nodelay: true,
        ..Config::default()
    }
}

/// AES where the processor has it, for it is then several times faster than ChaCha20.
fn ciphers() -> &'static [cipher::Name] {
    const AES_FIRST: &[cipher::Name] = &[
        cipher::AES_256_GCM,
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_CTR,
        cipher::AES_128_CTR,
    ];
    const CHACHA_FIRST: &[cipher::Name] = &[
        cipher::CHACHA20_POLY1305,
        cipher::AES_256_GCM,
        cipher::AES_256_CTR,
        cipher::AES_128_CTR,
    ];
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    match has_aes {
        true => AES_FIRST,
        false => CHACHA_FIRST,
    }
}

fn handshake_failure(error: russh::Error) -> Failure {
    match error {
        russh::Error::NoCommonAlgo { .. } => {
            Failure::Malformed("it has no algorithm in common with us")
        }
        russh::Error::Version => Failure::Malformed("it does not speak SSH"),
        russh::Error::WrongServerSig => Failure::Malformed("it cannot prove its host key"),
        russh::Error::ChannelOpenFailure(_) => Failure::Refused(Refusal::Forbidden),
        other => Failure::Unreachable(Arc::new(io_error(other))),
    }
}
