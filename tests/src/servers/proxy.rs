//! A TCP relay in front of a server: a slow line, a long one, one that breaks.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::reactor::Reactor;
use crate::PATIENCE;
use crate::host::Host;

/// What is relayed at once.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// The smallest such piece, on slow lines.
const PIECE_BYTES_MIN: usize = 1 << 10;
/// What a line may carry at once after it was idle.
const BURST: Duration = Duration::from_millis(10);
/// What may be on its way in one direction of a connection: 64 MiB, a long and fat line.
const PIECES_UNDER_WAY_MAX: usize = 1024;

/// A relay on a port of its own, for any number of connections. Dropping it drops them.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    _reactor: Reactor,
}

/// What the line is like. All connections share its rate, which each direction has for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bytes per second; `None` is as fast as it goes.
    pub rate_bytes_per_s: Option<u64>,
    /// How much later everything arrives; a new connection takes a round trip more.
    pub delay_each_way: Duration,
}

/// How the line is broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It is not.
    #[default]
    None,
    /// New connections are reset; those that are there go on.
    Refuse,
    /// Connections are accepted; nothing goes on, on none, until there is another fault or none.
    Hang,
    /// Each connection ends, in order, when it has brought so many more bytes to its client.
    CutAfter(u64),
}

/// What all connections share.
#[derive(Debug)]
struct Line {
    target: SocketAddr,
    shape: watch::Sender<Shape>,
    fault: watch::Sender<Fault>,
    drops: watch::Sender<()>,
    up: Lane,
    down: Lane,
    connections: AtomicU64,
}

/// One direction of the line.
#[derive(Debug)]
struct Lane {
    /// When it has carried everything that was given to it.
    free: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Proxy {
    /// Starts a relay to `target`.
    ///
    /// # Panics
    /// If there is no port, here and below.
    pub fn start(target: SocketAddr) -> Self {
        Self::start_on(&Host::local(), target)
    }

    /// Starts a relay on another host than this machine, which reaches the target from there.
    pub fn start_on(host: &Host, target: SocketAddr) -> Self {
        let reactor = Reactor::start("proxy", host);
        let listener = reactor.run(TcpListener::bind((host.address(), 0)));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(Line {
            target,
            shape: watch::Sender::new(Shape::default()),
            fault: watch::Sender::new(Fault::None),
            drops: watch::Sender::new(()),
            up: Lane::new(),
            down: Lane::new(),
            connections: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&line);
        reactor.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                let line = Arc::clone(&accepting);
                // A connection ends when the reactor does, or one of its ends; there is no more to
                // say of it.
                tokio::spawn(async move { line.serve(client).await });
            }
        });
        Self {
            address,
            line,
            _reactor: reactor,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Changes the line, for what has not been sent yet.
    pub fn set_shape(&self, shape: Shape) {
        self.line.shape.send_replace(shape);
    }

    /// Breaks the line, or mends it with [`Fault::None`].
    pub fn set_fault(&self, fault: Fault) {
        self.line.fault.send_replace(fault);
    }

    /// Resets every connection that there is now.
    pub fn drop_all(&self) {
        self.line.drops.send_replace(());
    }

    /// How many connections were accepted, refused ones too.
    pub fn connections(&self) -> u64 {
        self.line.connections.load(Ordering::Relaxed)
    }

    /// How many bytes went to the server.
    pub fn bytes_up(&self) -> u64 {
        self.line.up.bytes.load(Ordering::Relaxed)
    }

    /// How many bytes came from the server and went to clients.
    pub fn bytes_down(&self) -> u64 {
        self.line.down.bytes.load(Ordering::Relaxed)
    }
}

impl Line {
    async fn serve(&self, mut client: TcpStream) {
        // What was dropped before this connection does not concern it.
        let mut drops = self.drops.subscribe();
        let relayed = tokio::select! {
            relayed = self.relay(&mut client) => relayed,
            _ = drops.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if relayed.is_err() {
            // Without it the client would see an orderly end.
            let _ = client.set_zero_linger();
        }
    }

    /// Relays until both ends are through, or one breaks.
    async fn relay(&self, client: &mut TcpStream) -> io::Result<()> {
        if *self.fault.borrow() == Fault::Refuse {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let delay = self.shape.borrow().delay_each_way;
        reached(Instant::now() + delay * 2).await;
        self.working().await;
        let mut server = TcpStream::connect(self.target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (mut from_client, mut to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = self.carry(&self.up, &mut from_client, to_server, None);
        let cut = Some(self.fault.subscribe());
        let down = self.carry(&self.down, from_server, &mut to_client, cut);
        match tokio::try_join!(up, down) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            ended => return ended.map(drop),
        }
        // Cut: what was sent arrives, then the end; a reset could overtake it.
        to_client.shutdown().await?;
        let mut sink = tokio::io::sink();
        let rest = tokio::io::copy(&mut from_client, &mut sink);
        let _ = timeout(PATIENCE, rest).await;
        Ok(())
    }

    /// Carries bytes one way until their source ends; `cut` is the fault that may end it sooner,
    /// with [`io::ErrorKind::UnexpectedEof`].
    async fn carry(
        &self,
        lane: &Lane,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        mut cut: Option<watch::Receiver<Fault>>,
    ) -> io::Result<()> {
        let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_UNDER_WAY_MAX);
        let sending = async move {
            let mut piece = vec![0; PIECE_BYTES_MAX];
            loop {
                let shape = *self.shape.borrow();
                let len = from.read(&mut piece[..shape.piece_bytes()]).await?;
                let departure = lane.departure(&shape, len);
                reached(departure).await;
                let arrival = departure + shape.delay_each_way;
                // The other side ends first only with an error of its own.
                let _ = under_way.send((arrival, piece[..len].to_vec())).await;
                if len == 0 {
                    return Ok(());
                }
            }
        };
        let mut left = cut.as_ref().and_then(|fault| allowance(&fault.borrow()));
        let delivering = async {
            while let Some((arrival, piece)) = arriving.recv().await {
                reached(arrival).await;
                self.working().await;
                if let Some(fault) = cut.as_mut()
                    && fault.has_changed().unwrap_or(false)
                {
                    left = allowance(&fault.borrow_and_update());
                }
                if piece.is_empty() {
                    return to.shutdown().await;
                }
                let len = left.map_or(piece.len(), |left| piece.len().min(saturated(left)));
                // Counted first: whoever has received something finds it counted.
                lane.bytes.fetch_add(len as u64, Ordering::Relaxed);
                to.write_all(&piece[..len]).await?;
                if let Some(left) = left.as_mut() {
                    *left -= len as u64;
                    if *left == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
            Ok(())
        };
        tokio::try_join!(sending, delivering).map(drop)
    }

    /// Waits while the line hangs.
    async fn working(&self) {
        let mut fault = self.fault.subscribe();
        // The sender lives as long as the line.
        let _ = fault.wait_for(|fault| *fault != Fault::Hang).await;
    }
}

impl Lane {
    fn new() -> Self {
        Self {
            free: Mutex::new(Instant::now()),
            bytes: AtomicU64::new(0),
        }
    }

    /// When the last of `len` bytes, given to the lane now, has left it.
    fn departure(&self, shape: &Shape, len: usize) -> Instant {
        let now = Instant::now();
        let Some(rate) = shape.rate_bytes_per_s else {
            return now;
        };
        let mut free = self.free.lock().unwrap();
        let idle_since = now.checked_sub(BURST).unwrap_or(now);
        let takes = Duration::from_secs(1).mul_f64(len as f64 / rate.max(1) as f64);
        *free = (*free).max(idle_since) + takes;
        (*free).max(now)
    }
}

impl Shape {
    /// How much is carried as a whole: what takes about [`BURST`].
    fn piece_bytes(&self) -> usize {
        let whole = self
            .rate_bytes_per_s
            .map_or(PIECE_BYTES_MAX, |rate| saturated(rate / 100));
        whole.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }
}

/// Waits until then. A timer would take a millisecond of what is over already.
async fn reached(then: Instant) {
    if then > Instant::now() {
        sleep_until(then).await;
    }
}

fn allowance(fault: &Fault) -> Option<u64> {
    match fault {
        Fault::CutAfter(bytes) => Some(*bytes),
        Fault::None | Fault::Refuse | Fault::Hang => None,
    }
}

fn saturated(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
