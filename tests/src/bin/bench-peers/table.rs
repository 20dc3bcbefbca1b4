//! What was measured beside what, and the table of it.

/// Rows in the order in which they were first measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

struct Row {
    title: String,
    better: Better,
    /// What it is compared with, and ours, of each round; the former is 0 where there is nothing.
    rounds: Vec<[f64; 2]>,
}

/// Which way a row is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    High,
    Low,
}

impl Table {
    /// Notes what one round gave: what ours is compared with, and ours.
    pub(crate) fn note(&mut self, title: &str, better: Better, base: f64, ours: f64) {
        eprintln!("  {title}: {base:.2} beside {ours:.2}");
        let at = self.rows.iter().position(|row| row.title == title);
        let at = at.unwrap_or_else(|| {
            self.rows.push(Row {
                title: title.to_owned(),
                better,
                rounds: Vec::new(),
            });
            self.rows.len() - 1
        });
        self.rows[at].rounds.push([base, ours]);
    }

    /// Prints it in Markdown: medians, and how many times better ours is than the other of the same
    /// round, in the middle and at the worst.
    pub(crate) fn print(&self) {
        println!("| | beside it | musicfs | × (median) | × (worst) |");
        println!("|---|---|---|---|---|");
        for row in &self.rows {
            let column = |which: usize| row.rounds.iter().map(move |round| round[which]).collect();
            let [base, ours] = [0, 1].map(|which| sorted(column(which)));
            let ratios = row.rounds.iter().map(|round| row.better.ratio(*round));
            let ratios = sorted(ratios.collect());
            let shown = |value: f64| match value > 0.0 {
                true => format!("{value:.2}"),
                false => "–".to_owned(),
            };
            println!(
                "| {} | {} | {} | {} | {} |",
                row.title,
                shown(median(&base)),
                shown(median(&ours)),
                shown(median(&ratios)),
                shown(ratios[0]),
            );
        }
    }
}

impl Better {
    /// Above 1 ours is ahead, whichever way the row goes; 0 if there is nothing to compare with.
    fn ratio(self, [base, ours]: [f64; 2]) -> f64 {
        match self {
            _ if base == 0.0 => 0.0,
            Self::High => ours / base,
            Self::Low => base / ours,
        }
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    sorted[sorted.len() / 2]
}
