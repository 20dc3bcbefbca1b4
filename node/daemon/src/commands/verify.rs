//! `musicfs verify`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use musicfs_proto::v1::{VerifyProgress, VerifyRequest};
use serde_json::{Value, json};

use super::Context;
use crate::cli::VerifyArgs;
use crate::client;
use crate::error::Error;
use crate::output::{Format, plain, size};

/// How often the bar is drawn again.
const TICK: Duration = Duration::from_millis(100);

/// Has cached data read again and shows how far it is.
pub(super) async fn run(context: &Context, args: &VerifyArgs) -> Result<(), Error> {
    let mut client = client::connect(&context.paths()?.socket).await?;
    let request = VerifyRequest {
        origin_id: args.origin.clone(),
        dry_run: args.dry_run,
    };
    let refused = client::refused("verify the cache");
    let answer = client.verify(request).await;
    let mut stream = answer.map_err(&refused)?.into_inner();
    let view = View::new(context.format);
    let mut last = VerifyProgress::default();
    while let Some(progress) = stream.message().await.map_err(&refused)? {
        view.show(&progress)?;
        last = progress;
    }
    if let Some(bar) = view.bar {
        bar.finish_and_clear();
    }
    if context.format == Format::Text && last.complete && last.error.is_none() {
        crate::output::write(summary(&last).as_bytes())?;
    }
    outcome(&last)
}

/// What the last message means for the exit code.
fn outcome(last: &VerifyProgress) -> Result<(), Error> {
    let failed = |reason: &str| Error::Verify {
        reason: reason.to_owned(),
    };
    match &last.error {
        Some(error) => return Err(failed(error)),
        None if !last.complete => return Err(failed("the daemon ended before it was done")),
        None => {}
    }
    match last.blocks_corrupt.saturating_sub(last.blocks_healed) {
        0 => Ok(()),
        blocks => Err(Error::Damaged { blocks }),
    }
}

struct View {
    format: Format,
    bar: Option<ProgressBar>,
}

impl View {
    fn new(format: Format) -> Self {
        let drawn = format == Format::Text && io::stderr().is_terminal();
        let bar = drawn.then(|| {
            let bar = ProgressBar::new(0).with_style(bar_style());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { format, bar }
    }

    fn show(&self, progress: &VerifyProgress) -> Result<(), Error> {
        if self.format == Format::Json {
            return self.format.line(&to_json(progress), String::new);
        }
        // Text that is no terminal's gets the summary at the end.
        if let Some(bar) = &self.bar {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_checked.min(progress.bytes_total));
            bar.set_message(plain(progress.current_path.as_deref().unwrap_or_default()));
        }
        Ok(())
    }
}

fn bar_style() -> ProgressStyle {
    // The template is a constant: it cannot fail for one library and not for another.
    ProgressStyle::with_template("{bar:30} {binary_bytes}/{binary_total_bytes} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn summary(last: &VerifyProgress) -> String {
    let (objects, bytes) = (last.objects_checked, size(last.bytes_checked));
    let (corrupt, healed) = (last.blocks_corrupt, last.blocks_healed);
    format!("{objects} objects, {bytes}: {corrupt} damaged blocks, {healed} of them mended\n")
}

fn to_json(progress: &VerifyProgress) -> Value {
    json!({
        "objects_checked": progress.objects_checked,
        "objects_total": progress.objects_total,
        "bytes_checked": progress.bytes_checked,
        "bytes_total": progress.bytes_total,
        "blocks_corrupt": progress.blocks_corrupt,
        "blocks_healed": progress.blocks_healed,
        "current_path": progress.current_path,
        "complete": progress.complete,
        "error": progress.error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_stays_and_an_early_end_are_errors() {
        let complete = VerifyProgress {
            objects_checked: 3,
            bytes_checked: 2048,
            complete: true,
            ..VerifyProgress::default()
        };
        outcome(&complete).unwrap();
        let healed = VerifyProgress {
            blocks_corrupt: 2,
            blocks_healed: 2,
            ..complete.clone()
        };
        outcome(&healed).unwrap();
        let text = summary(&healed);
        assert_eq!(
            text,
            "3 objects, 2.0 KiB: 2 damaged blocks, 2 of them mended\n"
        );
        assert_eq!(to_json(&healed)["blocks_healed"], 2);
        let damaged = VerifyProgress {
            blocks_healed: 1,
            ..healed
        };
        let error = outcome(&damaged).unwrap_err();
        assert!(matches!(error, Error::Damaged { blocks: 1 }), "{error}");
        let early = VerifyProgress {
            complete: false,
            ..complete.clone()
        };
        assert!(matches!(outcome(&early), Err(Error::Verify { .. })));
        let failed = VerifyProgress {
            error: Some("the disk fails".into()),
            ..complete
        };
        assert!(
            outcome(&failed)
                .unwrap_err()
                .to_string()
                .contains("the disk fails")
        );
    }
}
