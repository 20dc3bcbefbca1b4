//! `musicfs cluster init | join | show | leave | rotate`.
//!
//! They work on the instance's keys, whether its daemon runs or not; one that runs is told.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read};

use musicfs_core::error::with_causes;
use musicfs_peer::{Identity, JoinCode, Keys};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{ClusterCommand, Secret};
use crate::client;
use crate::error::Error;
use crate::node_name::node_name;
use crate::output::{fields, write_note};

/// What is read of standard input for a join code: many times its length.
const CODE_LEN_MAX: u64 = 1024;

/// How the code gets from here to other nodes.
const HOW_TO_JOIN: &str =
    "`musicfs cluster show --join-code` shows the code with which other nodes join\n";

/// Does one of them.
pub(super) async fn run(context: &Context, command: &ClusterCommand) -> Result<(), Error> {
    let keys = Keys::new(&context.paths()?.state);
    let name = node_name(&context.name);
    let view = View { keys: &keys, name };
    match command {
        ClusterCommand::Init => {
            let identity = keys.init()?;
            let uptake = Uptake::of(context).await?;
            let value = view.to_json(Some(&identity));
            context.format.print(&value, || {
                let cluster = identity.fingerprint();
                format!("made cluster {cluster}\n{HOW_TO_JOIN}{uptake}")
            })
        }
        ClusterCommand::Join { code } => join(context, &view, code).await,
        ClusterCommand::Show { join_code } => show(context, &view, *join_code),
        ClusterCommand::Leave => {
            keys.leave()?;
            let uptake = Uptake::of(context).await?;
            context.format.print(&view.to_json(None), || {
                format!("left the cluster, and dropped this node's own key\n{uptake}")
            })
        }
        ClusterCommand::Rotate => {
            let identity = keys.rotate()?;
            let uptake = Uptake::of(context).await?;
            let value = view.to_json(Some(&identity));
            context.format.print(&value, || {
                let cluster = identity.fingerprint();
                format!(
                    "the cluster has a new key and is now {cluster}; every other node must leave \
                     and join again\n{HOW_TO_JOIN}{uptake}"
                )
            })
        }
    }
}

async fn join(context: &Context, view: &View<'_>, typed: &[Secret]) -> Result<(), Error> {
    let code: JoinCode = match typed {
        [only] if only.reveal() == "-" => read_code()?,
        // The groups of a code may be words of their own.
        words => {
            let words: Vec<&str> = words.iter().map(Secret::reveal).collect();
            words.concat().parse()?
        }
    };
    let joined = view.keys.join(&code)?;
    let uptake = Uptake::of(context).await?;
    let mut value = view.to_json(Some(&joined.identity));
    value["joined"] = joined.is_new.into();
    context.format.print(&value, || {
        let cluster = joined.identity.fingerprint();
        match joined.is_new {
            true => format!("joined cluster {cluster}\n{uptake}"),
            false => format!("this node is in cluster {cluster} already\n"),
        }
    })
}

fn show(context: &Context, view: &View<'_>, with_code: bool) -> Result<(), Error> {
    let identity = view.keys.identity()?;
    if with_code && identity.is_none() {
        let action = "show the join code";
        return Err(musicfs_peer::KeysError::NoCluster { action }.into());
    }
    let mut value = view.to_json(identity.as_ref());
    let code = identity.as_ref().filter(|_| with_code);
    let code = code.map(|identity| identity.join_code().reveal());
    if let Some(code) = &code {
        value["join_code"] = code.as_str().into();
    }
    context.format.print(&value, || {
        let mut lines = vec![];
        match &identity {
            None => lines.push(("cluster", "none".to_owned())),
            Some(identity) => {
                lines.push(("cluster", identity.fingerprint().to_string()));
                lines.push(("node", identity.node_id().to_string()));
            }
        }
        lines.push(("name", view.name.clone()));
        lines.push(("keys", view.keys.dir().display().to_string()));
        if let Some(code) = &code {
            lines.push(("join code", code.to_string()));
        }
        fields(&lines)
    })
}

/// Whether the daemon goes by the keys as they are now.
enum Uptake {
    /// It does.
    Done,
    /// There is none.
    Later,
    /// It could not read its configuration again.
    Refused(Error),
}

impl Uptake {
    /// Tells the daemon, if one runs.
    async fn of(context: &Context) -> Result<Self, Error> {
        let mut client = match client::connect(&context.paths()?.socket).await {
            Ok(client) => client,
            Err(Error::NotRunning { .. }) => return Ok(Self::Later),
            Err(error) => return Ok(Self::Refused(error)),
        };
        let told = client.reload(()).await;
        Ok(match told.map_err(client::refused("tell the daemon")) {
            Ok(_) => Self::Done,
            Err(error) => Self::Refused(error),
        })
    }
}

impl fmt::Display for Uptake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => writeln!(f, "the daemon has taken this up"),
            Self::Later => writeln!(f, "the daemon takes this up at its next start"),
            Self::Refused(error) => writeln!(
                f,
                "the daemon takes this up at its next start, for now it could not: {}",
                with_causes(error)
            ),
        }
    }
}

/// What there is to say about a node.
struct View<'a> {
    keys: &'a Keys,
    name: String,
}

impl View<'_> {
    fn to_json(&self, identity: Option<&Identity>) -> Value {
        json!({
            "cluster": identity.map(|identity| identity.fingerprint().to_string()),
            "node_id": identity.map(|identity| identity.node_id().to_string()),
            "node_name": self.name,
            "keys": self.keys.dir().to_string_lossy(),
        })
    }
}

/// Reads a code from a line of standard input.
fn read_code() -> Result<JoinCode, Error> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        write_note("join code: ");
    }
    let mut line = Vec::new();
    let read = stdin.lock().take(CODE_LEN_MAX).read_until(b'\n', &mut line);
    read.map_err(|source| Error::System {
        action: "read the join code from standard input",
        source,
    })?;
    Ok(String::from_utf8_lossy(&line).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_an_identity_holds_no_code() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::new(dir.path());
        let view = View {
            keys: &keys,
            name: "den".into(),
        };
        assert_eq!(view.to_json(None)["cluster"], Value::Null);
        let identity = keys.init().unwrap();
        let value = view.to_json(Some(&identity));
        assert_eq!(value["cluster"], identity.fingerprint().to_string());
        assert_eq!(value["node_id"], identity.node_id().to_string());
        assert_eq!(value["keys"], dir.path().join("cluster").to_str().unwrap());
        assert!(
            !value
                .to_string()
                .contains(identity.join_code().reveal().as_str())
        );
    }
}
