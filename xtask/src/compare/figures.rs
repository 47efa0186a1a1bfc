//! Medians, and a table of them.

/// The value in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => (values[even / 2 - 1] + values[even / 2]) / 2.0,
    }
}

/// Rows under a title; the first column is text.
pub(super) struct Table {
    columns: &'static [&'static str],
    rows: Vec<(String, Vec<f64>)>,
}

impl Table {
    pub(super) fn new(columns: &'static [&'static str]) -> Table {
        Table { columns, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, name: &str, values: Vec<f64>) {
        self.rows.push((name.to_owned(), values));
    }

    pub(super) fn print(&self, title: &str) {
        println!("\n{title}");
        print!("{:<24}", "");
        self.columns.iter().for_each(|column| print!("{column:>16}"));
        println!();
        for (name, values) in &self.rows {
            print!("{name:<24}");
            for value in values {
                match *value {
                    value if value.is_nan() => print!("{:>16}", "-"),
                    value if value >= 1_000.0 => print!("{value:>16.0}"),
                    value => print!("{value:>16.3}"),
                }
            }
            println!();
        }
    }
}

/// A target and what became of it; nothing is said where a part is missing.
pub(super) fn target(what: &str, ratio: f64, most: f64) {
    if ratio.is_finite() {
        let word = if ratio <= most { "holds" } else { "MISSED" };
        println!("{what}: {ratio:.3}, at most {most}: {word}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
