//! `musicfs doctor`: what keeps MusicFS from working here, and how to mend it.
//!
//! [`facts`] looks at the machine; [`findings`] decides what the facts mean, and touches nothing.

mod cache;
mod facts;
mod findings;

use serde_json::json;

use crate::cli::SettingsArgs;
use crate::commands::Context;
use crate::error::Error;
use crate::output::plain;

use findings::{Finding, Level};

/// Prints every finding with its fix.
///
/// # Errors
/// [`Error::Findings`] if one of them must be mended before a mount can work.
pub(crate) fn run(context: &Context, settings: &SettingsArgs) -> Result<(), Error> {
    let facts = facts::gather(context, settings)?;
    let findings = findings::decide(&facts);
    let errors = findings.iter().filter(|f| f.level == Level::Error).count();
    let all: Vec<_> = findings.iter().map(to_json).collect();
    let value = json!({ "ok": errors == 0, "findings": all });
    context
        .format
        .print(&value, || findings.iter().map(to_text).collect())?;
    match errors {
        0 => Ok(()),
        errors => Err(Error::Findings { errors }),
    }
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({
        "check": finding.check,
        "level": finding.level.name(),
        "message": finding.message,
        "fix": finding.fix,
    })
}

fn to_text(finding: &Finding) -> String {
    let level = finding.level.name();
    let mut text = format!("{level:7}  {}\n", plain(&finding.message));
    if let Some(fix) = &finding.fix {
        text += &format!("         {}\n", plain(fix));
    }
    text
}
