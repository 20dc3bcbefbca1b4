//! What a session may take of time and memory.

use std::time::Duration;

use quinn::{EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::wire::FRAME_BYTES_MAX;

/// Waits of a session. All but tests use the default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLimits {
    /// Until the other end has introduced itself: several round trips of the longest link.
    pub(crate) hello_wait_max: Duration,
    /// Until the rest of a request has come, and until some of an answer has been taken: then its slot
    /// is for others.
    pub(crate) stall_max: Duration,
    /// Until some of the news has been taken: what waits to be told grows meanwhile.
    pub(crate) news_stall_max: Duration,
    /// Until something of an answer has come. Callers have less patience; this ends what they forgot.
    pub(crate) answer_wait_max: Duration,
}

/// Requests with a payload that one session serves at once; more are answered BUSY.
pub(crate) const SERVED_MAX: usize = 16;
/// Requests with a payload that all sessions serve at once, until the last byte has arrived: with answers of
/// 1 MiB, 64 MiB wait to be sent or acknowledged.
pub(crate) const SERVED_ALL_MAX: usize = 64;
/// Requests for content that this node has on their way to one other at once. Fewer than are served: an
/// answer that was given up may still hold its slot for a moment, and manifests are asked for beside.
pub(crate) const ASKED_MAX: usize = 12;
/// Requests for manifests that this node has on their way to one other at once: they are short.
pub(crate) const MANIFESTS_ASKED_MAX: usize = 2;
/// What one request for content asks for: an answer fits the window of a stream, so a server is done
/// with it however slowly it is read.
pub(crate) const ASKED_BYTES_MAX: u64 = 1 << 20;
/// Streams for requests that the other end may have open at once: those served, and as many that are told
/// BUSY, are pings, or have been answered and wait for that to arrive.
pub(crate) const STREAMS_MAX: usize = 2 * SERVED_MAX;
/// The stream of news, and one that a later version might open.
const STREAMS_UNI_MAX: u32 = 2;

/// What one stream may send ahead of its reader: one whole answer.
const STREAM_WINDOW_BYTES: u32 = ASKED_BYTES_MAX as u32 + 4 + FRAME_BYTES_MAX as u32;
/// What all streams of a connection may send ahead of their readers: all answers that can be on their way.
/// A reader that waits can hold up no other.
const WINDOW_BYTES: u32 = (ASKED_MAX as u32 + 1) * STREAM_WINDOW_BYTES;
/// What waits to be acknowledged by one node: all answers that are served for it. With less, writers would
/// wait for each other, and QUIC's library wakes the last that came first: some would wait for ever.
const SEND_WINDOW_BYTES: u64 = SERVED_MAX as u64 * STREAM_WINDOW_BYTES as u64;

/// Well below what routers and firewalls remember of UDP.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(4);
/// Two of those lost. The first one that is sent into the silence begins the wait anew (RFC 9000 section
/// 10.1): a node that is gone is noticed within 14 s.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// The largest datagram that is tried and taken: where links allow it, it halves the work. The kernel sends
/// no ten of larger ones with one call.
const DATAGRAM_BYTES_MAX: u16 = 6000;

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            hello_wait_max: Duration::from_secs(5),
            stall_max: Duration::from_secs(10),
            news_stall_max: Duration::from_secs(30),
            answer_wait_max: Duration::from_secs(30),
        }
    }
}

/// The transport parameters that both directions need: without them there is no liveness, and the bounds of
/// the protocol do not hold.
pub(crate) fn transport() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM_BYTES_MAX);
    let idle = IDLE_MAX.try_into();
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE_EVERY))
        .max_idle_timeout(Some(idle.expect("10 s is far below 2^62 ms")))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX as u32))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_UNI_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(Some(mtu));
    transport
}

/// What an endpoint needs beside the transport parameters: it takes datagrams as large as are tried.
pub(crate) fn endpoint() -> EndpointConfig {
    let mut endpoint = EndpointConfig::default();
    let set = endpoint.max_udp_payload_size(DATAGRAM_BYTES_MAX);
    set.expect("RFC 9000 allows 1200 to 65527");
    endpoint
}
