//! Reports health to `grpc.health.v1`: the process, the mount, the exchange with peers, each origin.

use std::time::Duration;

use musicfs_library::HealthState;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::ControlContext;
use crate::mount_check::MountCheck;

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
    let check = MountCheck::start(context.mount.mount_point().to_owned());
    if let Err(error) = &check {
        tracing::warn!(%error, "the mount's health cannot be watched");
    }
    loop {
        ticks.tick().await;
        let answers = match &check {
            Ok(check) => check.ask(STAT_WAIT_MAX).await,
            Err(_) => false,
        };
        reporter.set_service_status("mount", serving(answers)).await;
        // Whether anybody is connected is not this node's health.
        let exchanges = serving(context.library.peers().is_some());
        reporter.set_service_status("peers", exchanges).await;
        let Ok(origins) = context.library.origins() else {
            continue;
        };
        for origin in origins {
            let name = format!("origin/{}", origin.row.name);
            let Some(health) = origin.health else {
                // Not configured any more.
                reporter.clone().clear_service_status(&name).await;
                continue;
            };
            let status = match health.state {
                HealthState::Unknown => ServingStatus::Unknown,
                HealthState::Healthy | HealthState::Degraded => ServingStatus::Serving,
                HealthState::Unhealthy => ServingStatus::NotServing,
            };
            reporter.set_service_status(name, status).await;
        }
    }
}

fn serving(yes: bool) -> ServingStatus {
    if yes {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}
