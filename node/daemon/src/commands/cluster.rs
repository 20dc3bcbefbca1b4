//! `musicfs cluster init | join | show | leave | rotate`.
//!
//! They work on the instance's keys, whether its daemon runs or not: it reads them when it starts.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Read};

use musicfs_peer::{Identity, JoinCode, Keys};
use serde_json::{Value, json};

use super::Context;
use crate::cli::{ClusterCommand, Secret};
use crate::error::Error;
use crate::output::{fields, write_note};
use crate::paths::DEFAULT_NAME;

/// What is read of standard input for a join code: many times its length.
const CODE_LEN_MAX: u64 = 1024;

/// Said after every change.
const AT_THE_NEXT_START: &str = "a daemon that is running takes this up at its next start\n";
/// How the code gets from here to other nodes.
const HOW_TO_JOIN: &str =
    "`musicfs cluster show --join-code` shows the code with which other nodes join\n";

/// Does one of them.
pub(super) fn run(context: &Context, command: &ClusterCommand) -> Result<(), Error> {
    let keys = Keys::new(&context.paths()?.state);
    let name = node_name(&host_name(), &context.name);
    let view = View { keys: &keys, name };
    match command {
        ClusterCommand::Init => {
            let identity = keys.init()?;
            let value = view.to_json(Some(&identity));
            context.format.print(&value, || {
                let cluster = identity.fingerprint();
                format!("made cluster {cluster}\n{HOW_TO_JOIN}{AT_THE_NEXT_START}")
            })
        }
        ClusterCommand::Join { code } => join(context, &view, code),
        ClusterCommand::Show { join_code } => show(context, &view, *join_code),
        ClusterCommand::Leave => {
            keys.leave()?;
            context.format.print(&view.to_json(None), || {
                format!("left the cluster, and dropped this node's own key\n{AT_THE_NEXT_START}")
            })
        }
        ClusterCommand::Rotate => {
            let identity = keys.rotate()?;
            let value = view.to_json(Some(&identity));
            context.format.print(&value, || {
                let cluster = identity.fingerprint();
                format!(
                    "the cluster has a new key and is now {cluster}; every other node must leave \
                     and join again\n{HOW_TO_JOIN}{AT_THE_NEXT_START}"
                )
            })
        }
    }
}

fn join(context: &Context, view: &View<'_>, typed: &[Secret]) -> Result<(), Error> {
    let code: JoinCode = match typed {
        [only] if only.reveal() == "-" => read_code()?,
        // The groups of a code may be words of their own.
        words => {
            let words: Vec<&str> = words.iter().map(Secret::reveal).collect();
            words.concat().parse()?
        }
    };
    let joined = view.keys.join(&code)?;
    let mut value = view.to_json(Some(&joined.identity));
    value["joined"] = joined.is_new.into();
    context.format.print(&value, || {
        let cluster = joined.identity.fingerprint();
        match joined.is_new {
            true => format!("joined cluster {cluster}\n{AT_THE_NEXT_START}"),
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

/// What people call this machine.
fn host_name() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match text.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// What people call this node: its machine, and the instance if it is not the usual one.
fn node_name(host: &str, instance: &str) -> String {
    match instance {
        DEFAULT_NAME => host.to_owned(),
        _ => format!("{host}/{instance}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_by_its_machine_and_unusual_instances_by_theirs() {
        assert_eq!(node_name("den", "default"), "den");
        assert_eq!(node_name("den", "attic"), "den/attic");
        assert!(!host_name().is_empty());
    }

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
