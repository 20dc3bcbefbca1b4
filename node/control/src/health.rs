//! Reports health to `grpc.health.v1`: the process, the mount, each origin.

use std::path::PathBuf;
use std::time::Duration;

use musicfs_library::HealthState;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::ControlContext;

/// How often the mount and the origins are looked at.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// A mount that does not answer a stat within this time hangs.
const STAT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Keeps the health service true until it is aborted.
pub(crate) async fn report(reporter: HealthReporter, context: ControlContext) {
    // "" is set by the reporter itself: the process is alive if it answers.
    reporter
        .set_service_status("musicfs.v1.MusicFS", ServingStatus::Serving)
        .await;
    let mut ticks = tokio::time::interval(REPORT_EVERY);
    // A stat that hangs is not asked again: its thread would hang as well.
    let mut stat: Option<tokio::task::JoinHandle<bool>> = None;
    loop {
        ticks.tick().await;
        let mount_point = context.mount.mount_point().to_owned();
        let mut running = stat.take().unwrap_or_else(|| spawn_stat(mount_point));
        let answers = match tokio::time::timeout(STAT_WAIT_MAX, &mut running).await {
            Ok(outcome) => outcome.unwrap_or(false),
            Err(_) => {
                stat = Some(running);
                false
            }
        };
        reporter.set_service_status("mount", serving(answers)).await;
        let Ok(origins) = context.library.origins() else {
            continue;
        };
        for origin in origins {
            let Some(health) = origin.health else {
                continue;
            };
            let status = match health.state {
                HealthState::Unknown => ServingStatus::Unknown,
                HealthState::Healthy | HealthState::Degraded => ServingStatus::Serving,
                HealthState::Unhealthy => ServingStatus::NotServing,
            };
            reporter
                .set_service_status(format!("origin/{}", origin.row.name), status)
                .await;
        }
    }
}

fn spawn_stat(mount_point: PathBuf) -> tokio::task::JoinHandle<bool> {
    // Forced past the kernel's cache of attributes, which answers for a daemon that hangs.
    let ask = move || {
        let flags = AtFlags::STATX_FORCE_SYNC;
        rustix::fs::statx(CWD, mount_point, flags, StatxFlags::BASIC_STATS).is_ok()
    };
    tokio::task::spawn_blocking(ask)
}

fn serving(yes: bool) -> ServingStatus {
    if yes {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
