//! What was measured, and the table of it.

use std::collections::BTreeMap;

/// Which way a row is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    High,
    Low,
}

/// Rows in the order in which they were first measured, with every value of every system.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    title: String,
    better: Better,
    values: BTreeMap<&'static str, Vec<f64>>,
}

/// Names in the order of the columns: which are ours, which is the base that takes no part in the
/// comparison, and all others.
pub(crate) struct Columns {
    pub(crate) base: Vec<&'static str>,
    pub(crate) ours: Vec<&'static str>,
    pub(crate) others: Vec<&'static str>,
}

impl Table {
    /// Notes a value.
    pub(crate) fn note(&mut self, title: &str, better: Better, system: &'static str, value: f64) {
        eprintln!("{system}: {title}: {}", shown(value));
        let at = self.rows.iter().position(|row| row.title == title);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                title: title.to_owned(),
                better,
                values: BTreeMap::new(),
            });
            self.rows.len() - 1
        });
        let values = self.rows[at].values.entry(system).or_default();
        values.push(value);
    }

    /// Prints it in Markdown: the medians, and how many times better than the best of the others
    /// each of ours is.
    pub(crate) fn print(&self, columns: &Columns) {
        let names = columns.base.iter().chain(&columns.ours);
        let names: Vec<&str> = names.chain(&columns.others).copied().collect();
        let ratios: Vec<_> = columns
            .ours
            .iter()
            .map(|name| format!("{name} × best"))
            .collect();
        println!("| | {} | {} |", names.join(" | "), ratios.join(" | "));
        println!("|---{}|", "|---".repeat(names.len() + ratios.len()));
        for row in &self.rows {
            let value = |name: &&'static str| row.median(name).map_or("–".to_owned(), shown);
            let values: Vec<_> = names.iter().map(value).collect();
            let best = columns.others.iter().filter_map(|name| row.median(name));
            let best = best.reduce(|a, b| match row.better {
                Better::High => a.max(b),
                Better::Low => a.min(b),
            });
            let ratio = |name: &&str| ratio(row.better, row.median(name), best);
            let ratios: Vec<_> = columns.ours.iter().map(ratio).collect();
            println!(
                "| {} | {} | {} |",
                row.title,
                values.join(" | "),
                ratios.join(" | ")
            );
        }
    }
}

impl Row {
    fn median(&self, system: &str) -> Option<f64> {
        let mut values = self.values.get(system)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// How many times better than the best of the others: above 1 is ahead, whichever way the row goes.
fn ratio(better: Better, ours: Option<f64>, best: Option<f64>) -> String {
    let (Some(ours), Some(best)) = (ours, best) else {
        return "–".to_owned();
    };
    let (more, less) = match better {
        Better::High => (ours, best),
        Better::Low => (best, ours),
    };
    match (more > 0.0, less > 0.0) {
        (_, true) => format!("{:.2}", more / less),
        (true, false) => "∞".to_owned(),
        (false, false) => "1".to_owned(),
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        high if high >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
