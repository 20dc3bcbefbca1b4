//! `musicfs status`.

use musicfs_proto::v1::{MountState, StatusResponse};
use serde_json::{Value, json};

use super::Context;
use crate::client;
use crate::error::Error;
use crate::output::{duration, fields};

/// Prints what the daemon is doing.
pub(super) async fn run(context: &Context) -> Result<(), Error> {
    let mut client = client::connect(&context.paths()?.socket).await?;
    let status = client
        .get_status(())
        .await
        .map_err(client::refused("ask for the status"))?
        .into_inner();
    let name = &context.name;
    context
        .format
        .print(&to_json(name, &status), || to_text(name, &status))
}

fn state_name(state: MountState) -> &'static str {
    match state {
        MountState::Unknown => "unknown",
        MountState::Mounting => "mounting",
        MountState::Ready => "ready",
        MountState::Syncing => "syncing",
        MountState::Degraded => "degraded",
        MountState::Unmounting => "unmounting",
    }
}

fn to_json(name: &str, status: &StatusResponse) -> Value {
    json!({
        "name": name,
        "version": status.version,
        "state": state_name(status.state()),
        "mount_point": status.mount_point,
        "uptime_seconds": status.uptime_seconds,
        "open_file_handles": status.open_file_handles,
        "fuse_ops_total": status.fuse_ops_total,
    })
}

fn to_text(name: &str, status: &StatusResponse) -> String {
    fields(&[
        ("instance", name.to_owned()),
        ("state", state_name(status.state()).to_owned()),
        ("mount point", status.mount_point.clone()),
        ("uptime", duration(status.uptime_seconds)),
        ("open files", status.open_file_handles.to_string()),
        ("requests", status.fuse_ops_total.to_string()),
        ("version", status.version.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_as_text_and_as_json() {
        let status = StatusResponse {
            version: "1.2.3".into(),
            uptime_seconds: 61,
            mount_point: "/mnt".into(),
            state: MountState::Syncing.into(),
            open_file_handles: 4,
            fuse_ops_total: 5,
        };
        let text = to_text("default", &status);
        assert!(text.contains("state        syncing\n"), "{text}");
        assert!(text.contains("uptime       1 min 1 s\n"), "{text}");
        let json = to_json("default", &status);
        assert_eq!(json["state"], "syncing");
        assert_eq!(json["uptime_seconds"], 61);
    }
}
