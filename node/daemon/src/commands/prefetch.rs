//! `musicfs prefetch`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use musicfs_proto::v1::{PrefetchProgress, PrefetchRequest, PrefetchStrategy};
use serde_json::{Value, json};

use super::{Context, tree};
use crate::cli::PrefetchArgs;
use crate::client;
use crate::error::Error;
use crate::output::{Format, plain, size};

/// How often the bar is drawn again.
const TICK: Duration = Duration::from_millis(100);

/// What is asked, for errors.
const ACTION: &str = "prefetch";

/// Brings files into the cache and shows how far it is.
pub(super) async fn run(context: &Context, args: &PrefetchArgs) -> Result<(), Error> {
    if args.query.is_some() {
        return Err(Error::NoSearch { action: ACTION });
    }
    let mut client = client::connect(&context.paths()?.socket).await?;
    let request = PrefetchRequest {
        paths: tree::tree_paths(&mut client, ACTION, &args.paths).await?,
        query: None,
        strategy: strategy(args).into(),
    };
    let refused = client::refused(ACTION);
    let answer = client.prefetch(request).await;
    let mut stream = answer.map_err(&refused)?.into_inner();
    let mut view = View::new(context.format);
    while let Some(progress) = stream.message().await.map_err(&refused)? {
        view.show(&progress)?;
    }
    view.finish()
}

fn strategy(args: &PrefetchArgs) -> PrefetchStrategy {
    match (args.metadata_only, args.headers) {
        (true, _) => PrefetchStrategy::PrefetchMetadataOnly,
        (false, true) => PrefetchStrategy::PrefetchHeaders,
        (false, false) => PrefetchStrategy::PrefetchFull,
    }
}

/// The sum over all files. Holds those under way, which the daemon keeps few.
#[derive(Debug, Default, PartialEq, Eq)]
struct Total {
    /// Bytes fetched and asked for, of each file under way.
    open: BTreeMap<String, (u64, u64)>,
    /// The same of the files that are done.
    done: (u64, u64),
    files: u64,
    failed: u64,
}

impl Total {
    fn count(&mut self, progress: &PrefetchProgress) {
        let bytes = (progress.bytes_fetched, progress.bytes_total);
        if !progress.complete {
            self.open.insert(progress.path.clone(), bytes);
            return;
        }
        self.open.remove(&progress.path);
        self.done.0 += bytes.0;
        self.done.1 += bytes.1;
        self.files += 1;
        self.failed += u64::from(progress.error.is_some());
    }

    /// Bytes fetched and asked for, as far as files are known.
    fn bytes(&self) -> (u64, u64) {
        let add = |sum: (u64, u64), file: &(u64, u64)| (sum.0 + file.0, sum.1 + file.1);
        self.open.values().fold(self.done, add)
    }
}

/// What is shown: a bar on a terminal, else a line for each file, else JSON lines.
struct View {
    format: Format,
    bar: Option<ProgressBar>,
    total: Total,
}

impl View {
    fn new(format: Format) -> Self {
        let drawn = format == Format::Text && io::stderr().is_terminal();
        let bar = drawn.then(|| {
            let bar = ProgressBar::new(0).with_style(bar_style());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self {
            format,
            bar,
            total: Total::default(),
        }
    }

    fn show(&mut self, progress: &PrefetchProgress) -> Result<(), Error> {
        self.total.count(progress);
        let Some(bar) = &self.bar else {
            if self.format == Format::Text && !progress.complete {
                return Ok(());
            }
            let line = || line(progress);
            return self.format.line(&to_json(progress), line);
        };
        let (fetched, total) = self.total.bytes();
        bar.set_length(total);
        bar.set_position(fetched.min(total));
        bar.set_message(plain(&progress.path));
        if progress.error.is_some() {
            bar.suspend(|| crate::output::write(line(progress).as_bytes()))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        let Total {
            done,
            files,
            failed,
            ..
        } = self.total;
        if self.format == Format::Text {
            let kept = files - failed;
            let text = format!(
                "{kept} of {files} files are in the cache, {}\n",
                size(done.0)
            );
            crate::output::write(text.as_bytes())?;
        }
        match failed {
            0 => Ok(()),
            failed => Err(Error::Prefetch { failed, files }),
        }
    }
}

fn bar_style() -> ProgressStyle {
    // The template is a constant: it cannot fail for one library and not for another.
    ProgressStyle::with_template("{bar:30} {binary_bytes}/{binary_total_bytes} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn line(progress: &PrefetchProgress) -> String {
    let path = plain(&progress.path);
    match &progress.error {
        Some(error) => format!("{path}: {}\n", plain(error)),
        None => format!("{path}: {}\n", size(progress.bytes_fetched)),
    }
}

fn to_json(progress: &PrefetchProgress) -> Value {
    json!({
        "path": progress.path,
        "bytes_fetched": progress.bytes_fetched,
        "bytes_total": progress.bytes_total,
        "complete": progress.complete,
        "error": progress.error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(path: &str, fetched: u64, complete: bool, error: Option<&str>) -> PrefetchProgress {
        PrefetchProgress {
            path: path.into(),
            bytes_fetched: fetched,
            bytes_total: 100,
            complete,
            error: error.map(Into::into),
        }
    }

    #[test]
    fn the_sum_counts_each_file_once() {
        let mut total = Total::default();
        for (message, expect) in [
            (progress("a", 10, false, None), (10, 100)),
            (progress("b", 5, false, None), (15, 200)),
            (progress("a", 40, false, None), (45, 200)),
            (progress("a", 100, true, None), (105, 200)),
            (progress("b", 5, true, Some("away")), (105, 200)),
            // In the cache already: one message is all.
            (progress("c", 100, true, None), (205, 300)),
        ] {
            total.count(&message);
            assert_eq!(total.bytes(), expect, "{message:?}");
        }
        assert_eq!((total.files, total.failed, total.open.len()), (3, 1, 0));
    }

    #[test]
    fn a_failure_is_told_and_makes_the_command_fail() {
        let failed = progress("a\u{7}", 0, true, Some("origin nas is away"));
        assert_eq!(line(&failed), "a\u{fffd}: origin nas is away\n");
        assert_eq!(line(&progress("b", 2048, true, None)), "b: 2.0 KiB\n");
        assert_eq!(to_json(&failed)["error"], "origin nas is away");
        let mut total = Total::default();
        total.count(&failed);
        let view = |total| View {
            format: Format::Json,
            bar: None,
            total,
        };
        let error = view(total).finish().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Prefetch {
                    failed: 1,
                    files: 1
                }
            ),
            "{error}"
        );
        view(Total::default()).finish().unwrap();
    }
}
