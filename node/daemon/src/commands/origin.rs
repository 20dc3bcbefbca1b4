//! `musicfs origin list | rescan | forget`.

use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use musicfs_proto::v1::{
    HealthStatus, OriginHealth, OriginInfo, OriginRequest, SyncPhase, SyncProgress,
};
use serde_json::{Value, json};

use super::Context;
use crate::cli::OriginCommand;
use crate::client::{self, Client};
use crate::error::Error;
use crate::output::{Format, duration, plain, size, table};

/// How often the spinner of a scan turns.
const TICK: Duration = Duration::from_millis(100);

/// Lists, rescans or forgets origins.
pub(super) async fn run(context: &Context, command: &OriginCommand) -> Result<(), Error> {
    let client = client::connect(&context.paths()?.socket).await?;
    match command {
        OriginCommand::List => list(client, context.format).await,
        OriginCommand::Rescan { id } => rescan(client, context.format, id.as_deref()).await,
        OriginCommand::Forget { id } => forget(client, context.format, id).await,
    }
}

async fn origins(client: &mut Client) -> Result<Vec<OriginInfo>, Error> {
    let answer = client.list_origins(()).await;
    let answer = answer.map_err(client::refused("list the origins"))?;
    Ok(answer.into_inner().origins)
}

async fn list(mut client: Client, format: Format) -> Result<(), Error> {
    let origins = origins(&mut client).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    let value = json!({ "origins": origins.iter().map(to_json).collect::<Vec<_>>() });
    format.print(&value, || to_text(&origins, now))
}

async fn rescan(mut client: Client, format: Format, id: Option<&str>) -> Result<(), Error> {
    let ids = match id {
        Some(id) => vec![id.to_owned()],
        None => {
            let origins = origins(&mut client).await?.into_iter();
            // Peers look after their own.
            let ours = origins.filter(|origin| origin.origin_type != "peer");
            ours.map(|origin| origin.id).collect()
        }
    };
    for id in ids {
        rescan_one(&mut client, format, id).await?;
    }
    Ok(())
}

async fn rescan_one(client: &mut Client, format: Format, id: String) -> Result<(), Error> {
    let refused = client::refused("rescan the origin");
    let request = OriginRequest {
        origin_id: id.clone(),
    };
    let answer = client.rescan_origin(request).await;
    let mut stream = answer.map_err(&refused)?.into_inner();
    let mut view = View::new(format);
    let mut last: Option<SyncProgress> = None;
    while let Some(progress) = stream.message().await.map_err(&refused)? {
        view.show(&progress)?;
        last = Some(progress);
    }
    view.finish();
    let failed = |reason: String| Error::Rescan { origin: id, reason };
    match last {
        Some(SyncProgress {
            error: Some(reason),
            ..
        }) => Err(failed(reason)),
        Some(progress) if progress.complete => Ok(()),
        _ => Err(failed("the daemon ended before the scan did".into())),
    }
}

async fn forget(mut client: Client, format: Format, id: &str) -> Result<(), Error> {
    let request = OriginRequest {
        origin_id: id.to_owned(),
    };
    let answer = client.forget_origin(request).await;
    let answer = answer.map_err(client::refused("forget the origin"))?;
    let removed = answer.into_inner().entries_removed;
    let value = json!({ "origin_id": id, "entries_removed": removed });
    format.print(&value, || {
        format!("forgot origin {id}: {removed} entries removed\n")
    })
}

/// What a scan under way shows: a bar on a terminal, else lines, else JSON lines.
struct View {
    format: Format,
    bar: Option<ProgressBar>,
    phase: Option<SyncPhase>,
}

impl View {
    fn new(format: Format) -> Self {
        let drawn = format == Format::Text && io::stderr().is_terminal();
        let bar = drawn.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            format,
            bar,
            phase: None,
        }
    }

    fn show(&mut self, progress: &SyncProgress) -> Result<(), Error> {
        let text = progress_text(progress);
        let Some(bar) = &self.bar else {
            // A line for every phase, and for the end: enough for a log.
            let phase = Some(progress.phase());
            if self.format == Format::Text && phase == self.phase && !progress.complete {
                return Ok(());
            }
            self.phase = phase;
            return self
                .format
                .line(&progress_json(progress), || format!("{text}\n"));
        };
        if progress.files_total > 0 && bar.length().is_none() {
            bar.set_style(bar_style());
        }
        if progress.files_total > 0 {
            bar.set_length(progress.files_total);
            bar.set_position(progress.files_scanned.min(progress.files_total));
        }
        if progress.complete {
            bar.finish_and_clear();
            return self.format.line(&Value::Null, || format!("{text}\n"));
        }
        bar.set_message(text);
        Ok(())
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar_style() -> ProgressStyle {
    // The template is a constant: it cannot fail for one library and not for another.
    ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn phase_name(phase: SyncPhase) -> &'static str {
    match phase {
        SyncPhase::Scanning => "scanning",
        SyncPhase::Comparing => "comparing",
        SyncPhase::Fetching => "fetching",
        SyncPhase::Indexing => "indexing",
        SyncPhase::Complete => "complete",
    }
}

fn health_name(health: &OriginHealth) -> &'static str {
    match health.status() {
        HealthStatus::HealthUnknown => "unknown",
        HealthStatus::HealthHealthy => "healthy",
        HealthStatus::HealthDegraded => "degraded",
        HealthStatus::HealthUnhealthy => "unhealthy",
    }
}

fn progress_text(progress: &SyncProgress) -> String {
    let SyncProgress {
        origin_id,
        files_scanned,
        files_changed,
        ..
    } = progress;
    let phase = phase_name(progress.phase());
    let current = progress.current_file.as_deref();
    let current = current.map_or_else(String::new, |file| format!(", {}", plain(file)));
    format!("{origin_id}: {phase}, {files_scanned} files, {files_changed} changed{current}")
}

fn progress_json(progress: &SyncProgress) -> Value {
    json!({
        "origin_id": progress.origin_id,
        "phase": phase_name(progress.phase()),
        "files_scanned": progress.files_scanned,
        "files_changed": progress.files_changed,
        "files_total": progress.files_total,
        "bytes_transferred": progress.bytes_transferred,
        "current_file": progress.current_file,
        "complete": progress.complete,
        "error": progress.error,
    })
}

fn to_json(origin: &OriginInfo) -> Value {
    let health = origin.health.clone().unwrap_or_default();
    json!({
        "id": origin.id,
        "origin_type": origin.origin_type,
        "display_name": origin.display_name,
        "health": {
            "status": health_name(&health),
            "latency_ms": health.latency_ms,
            "error_message": health.error_message,
            "last_check_unix": health.last_check_unix,
        },
        "file_count": origin.file_count,
        "total_bytes": origin.total_bytes,
        "last_sync_unix": origin.last_sync_unix,
    })
}

fn to_text(origins: &[OriginInfo], now_unix: i64) -> String {
    let row = |origin: &OriginInfo| {
        let health = origin.health.clone().unwrap_or_default();
        let age = now_unix.saturating_sub(origin.last_sync_unix);
        let synced = match origin.last_sync_unix {
            0 => "never".to_owned(),
            _ => format!("{} ago", duration(u64::try_from(age).unwrap_or(0))),
        };
        [
            origin.id.clone(),
            origin.origin_type.clone(),
            health_name(&health).to_owned(),
            origin.file_count.to_string(),
            size(origin.total_bytes),
            synced,
            origin.display_name.clone(),
        ]
    };
    let rows: Vec<_> = origins.iter().map(row).collect();
    let head = ["ID", "TYPE", "HEALTH", "FILES", "SIZE", "SYNCED", "PLACE"];
    let mut text = table(head, &rows);
    for origin in origins {
        if let Some(error) = origin
            .health
            .as_ref()
            .and_then(|h| h.error_message.as_ref())
        {
            text += &format!("{}: {}\n", origin.id, plain(error));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> OriginInfo {
        OriginInfo {
            id: "nas".into(),
            origin_type: "local".into(),
            display_name: "/mnt/nas".into(),
            health: Some(OriginHealth {
                status: HealthStatus::HealthUnhealthy.into(),
                error_message: Some("it is away".into()),
                ..OriginHealth::default()
            }),
            file_count: 12,
            total_bytes: 3 << 20,
            last_sync_unix: 1000,
        }
    }

    #[test]
    fn origins_are_listed_with_their_trouble_below() {
        let text = to_text(&[origin()], 1061);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("ID   TYPE   HEALTH"), "{text}");
        assert!(
            lines[1].contains("3.0 MiB  1 min 1 s ago  /mnt/nas"),
            "{text}"
        );
        assert_eq!(lines[2], "nas: it is away");
        assert_eq!(to_json(&origin())["health"]["status"], "unhealthy");
        let fresh = OriginInfo {
            last_sync_unix: 0,
            ..origin()
        };
        assert!(to_text(&[fresh], 5).contains("never"));
    }

    #[test]
    fn progress_says_phase_and_counts() {
        let progress = SyncProgress {
            origin_id: "nas".into(),
            phase: SyncPhase::Fetching.into(),
            files_scanned: 7,
            files_changed: 2,
            current_file: Some("a\u{7}b".into()),
            ..SyncProgress::default()
        };
        let text = progress_text(&progress);
        assert_eq!(text, "nas: fetching, 7 files, 2 changed, a\u{fffd}b");
        assert_eq!(progress_json(&progress)["phase"], "fetching");
    }
}
