//! Running a command on the server, on a channel of its own beside SFTP.

use std::sync::atomic::Ordering;
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg};

use super::super::failure::Failure;
use super::Session;

/// What is kept of what a command writes; the rest is thrown away. One line with a path of the
/// longest kind, each byte of it escaped.
const OUTPUT_BYTES_MAX: usize = 16 << 10;

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The server runs none.
    Refused,
    /// It ended.
    Ended {
        /// The beginning of what it wrote to standard output.
        output: Vec<u8>,
        /// Its exit status, if the server told.
        status: Option<u32>,
    },
}

impl Session {
    /// Runs `command` by the user's shell, with nothing on its standard input.
    ///
    /// # Errors
    /// [`Failure::Silent`] if it has not ended within `patience`; it is left alone then.
    /// [`Failure::Lost`] if the connection ends.
    pub(crate) async fn run(&self, command: Vec<u8>, patience: Duration) -> Result<Ran, Failure> {
        let _busy = Busy::new(self);
        let opened = self.in_time(self.link.channel_open_session()).await?;
        let mut channel = match opened {
            Ok(channel) => channel,
            Err(russh::Error::ChannelOpenFailure(_)) => return Ok(Ran::Refused),
            Err(_) => return Err(self.failure()),
        };
        let ran = tokio::select! {
            biased;
            () = self.end.cancelled() => Err(self.failure()),
            ran = tokio::time::timeout(patience, self.talk(&mut channel, command)) => {
                ran.unwrap_or(Err(Failure::Silent(patience)))
            }
        };
        // Whether or not the connection takes it: the server closes its end by itself.
        let _ = self.in_time(channel.close()).await;
        ran
    }

    /// True while a command runs.
    pub(super) fn runs_command(&self) -> bool {
        self.commands_count.load(Ordering::Relaxed) > 0
    }

    async fn talk(&self, channel: &mut Channel<Msg>, command: Vec<u8>) -> Result<Ran, Failure> {
        let lost = |_| self.failure();
        channel.exec(true, command).await.map_err(lost)?;
        // A server that runs something else instead, SFTP for one, sees that nobody speaks to it.
        channel.eof().await.map_err(lost)?;
        let (mut output, mut status) = (Vec::new(), None);
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Failure) => return Ok(Ran::Refused),
                Some(ChannelMsg::Data { data }) => {
                    let left = OUTPUT_BYTES_MAX - output.len();
                    output.extend_from_slice(&data[..left.min(data.len())]);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
                Some(ChannelMsg::Close) => return Ok(Ran::Ended { output, status }),
                None if self.is_ended() => return Err(self.failure()),
                None => return Ok(Ran::Ended { output, status }),
                // The end of the output, before the exit status; standard error; signals.
                Some(_) => {}
            }
        }
    }
}

/// Keeps a connection from being closed as idle.
struct Busy<'a>(&'a Session);

impl<'a> Busy<'a> {
    fn new(session: &'a Session) -> Self {
        session.commands_count.fetch_add(1, Ordering::Relaxed);
        Self(session)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.commands_count.fetch_sub(1, Ordering::Relaxed);
    }
}
