//! The first words on a connection: who is at the other end.

use musicfs_core::id::NodeId;
use quinn::{Connection, RecvStream, SendStream};

use super::close::{CloseCode, Ended, SessionError};
use super::{Introduced, Local};
use crate::binding::{Binding, Exported, Role};
use crate::tls::PeerIdError;
use crate::wire::{self, FrameError, Hello, News, Violation};

/// A name or a version that people are shown, in characters.
const TEXT_CHARS_MAX: usize = 64;

/// What is known once both ends have introduced themselves.
pub(super) struct Met {
    pub(super) node: NodeId,
    pub(super) introduced: Introduced,
}

/// The streams of news.
pub(super) struct Streams {
    pub(super) telling: SendStream,
    pub(super) hearing: RecvStream,
}

/// Those of them that are open.
#[derive(Default)]
pub(super) struct Opened {
    telling: Option<SendStream>,
    hearing: Option<RecvStream>,
}

/// Says and hears Hello, in any order.
pub(super) async fn meet(
    connection: &Connection,
    role: Role,
    local: &Local,
    opened: &mut Opened,
) -> Result<Met, SessionError> {
    let (node, exported) = match local.tls.peer_id(connection) {
        Ok(node) => (Some(node), None),
        Err(PeerIdError::Unbound) => (None, Some(Exported::of(connection)?)),
        Err(error) => return Err(error.into()),
    };
    let binding = exported
        .as_ref()
        .map(|exported| Binding::sign(&local.node_key, role, exported));
    let Opened { telling, hearing } = opened;
    let saying = say(connection, local, binding, telling);
    let ((), hello) = tokio::try_join!(saying, hear(connection, hearing))?;
    if hello.major != wire::MAJOR {
        return Err(SessionError::Version { major: hello.major });
    }
    let node = match (node, &exported) {
        (Some(node), _) => node,
        (None, Some(exported)) => {
            let binding = hello.binding.ok_or(SessionError::Unbound)?;
            binding.verify(role.other(), exported)?
        }
        (None, None) => return Err(SessionError::Unbound),
    };
    if node == local.node_key.id() {
        let is_itself = hello.start == local.start;
        return Err(match is_itself {
            true => SessionError::Itself,
            false => SessionError::Twin,
        });
    }
    Ok(Met {
        node,
        introduced: Introduced::of(&hello),
    })
}

/// Closes the connection of those who do not become a session, saying why.
pub(super) fn refuse(connection: &Connection, error: &SessionError) {
    let code = match error {
        SessionError::Itself => CloseCode::Itself,
        SessionError::Twin => CloseCode::Twin,
        SessionError::Version { .. } => CloseCode::Version,
        SessionError::Unnamed(_) | SessionError::Unbound | SessionError::Unproven(_) => {
            CloseCode::Unproven
        }
        SessionError::Violation(_) => CloseCode::Violation,
        SessionError::Slow => CloseCode::Slow,
        SessionError::Ended(_) => return,
    };
    code.close(connection, &error.to_string());
}

impl Opened {
    /// Both, if there are both.
    pub(super) fn both(self) -> Option<Streams> {
        let (Some(telling), Some(hearing)) = (self.telling, self.hearing) else {
            return None;
        };
        Some(Streams { telling, hearing })
    }
}

impl Introduced {
    fn of(hello: &Hello) -> Self {
        Self {
            name: printable(&hello.name),
            version: printable(&hello.version),
            listen_port: hello.listen_port,
            start: hello.start,
            minor: hello.minor,
        }
    }
}

async fn say(
    connection: &Connection,
    local: &Local,
    binding: Option<Binding>,
    opened: &mut Option<SendStream>,
) -> Result<(), SessionError> {
    let hello = News::Hello(Hello {
        major: wire::MAJOR,
        minor: wire::MINOR,
        name: printable(&local.name),
        version: printable(&local.version),
        listen_port: local.listen_port,
        binding,
        start: local.start,
    });
    let over = |error| SessionError::Ended(Ended::of(error));
    let stream = opened.insert(connection.open_uni().await.map_err(over)?);
    match stream.write_chunk(hello.to_frame()).await {
        Ok(()) => Ok(()),
        Err(quinn::WriteError::ConnectionLost(error)) => Err(over(error)),
        Err(_) => Err(violation("a stop of the stream of news")),
    }
}

async fn hear(
    connection: &Connection,
    opened: &mut Option<RecvStream>,
) -> Result<Hello, SessionError> {
    let over = |error| SessionError::Ended(Ended::of(error));
    let stream = opened.insert(connection.accept_uni().await.map_err(over)?);
    let message = match wire::read_frame(stream).await {
        Ok(Some(message)) => message,
        Ok(None) => return Err(violation("no Hello")),
        Err(FrameError::Violation(what)) => return Err(SessionError::Violation(what)),
        Err(FrameError::Read(quinn::ReadError::ConnectionLost(error))) => return Err(over(error)),
        Err(FrameError::Read(_)) => return Err(violation("a reset of the stream of news")),
    };
    match News::decode(message) {
        Ok(News::Hello(hello)) => Ok(hello),
        Ok(_) => Err(violation("something else before its Hello")),
        Err(what) => Err(SessionError::Violation(what)),
    }
}

fn violation(what: &'static str) -> SessionError {
    SessionError::Violation(Violation(what))
}

/// What of `text` can be shown to people: no control characters, nothing that turns text around or hides.
pub(super) fn printable(text: &str) -> String {
    let is_shown = |c: &char| {
        let is_quote = matches!(c, '\'' | '"' | '\\');
        is_quote || c.escape_debug().eq([*c])
    };
    let shown: String = text.chars().filter(is_shown).collect();
    shown.trim().chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_what_it_says_and_no_more() {
        let check = |text: &str, expect: &str| assert_eq!(printable(text), expect, "{text:?}");
        check("living room", "living room");
        check("  Küche 'oben' \\ \"1\" ", "Küche 'oben' \\ \"1\"");
        check("a\u{202e}b\u{200b}c\u{7}\n\0d\u{1b}[31m", "abcd[31m");
        check("音楽", "音楽");
        check("\u{feff}\u{2028}", "");
        check(&"é".repeat(100), &"é".repeat(64));
    }
}
