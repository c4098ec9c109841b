//! What was measured, for people and for programs.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::json;

/// Nanoseconds for a packet of a case.
pub struct Measurement {
    pub name: String,
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Measurement {
    /// Of several rounds.
    pub fn of(name: &str, mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self {
            name: name.to_owned(),
            median: times[times.len() / 2],
            least: times[0],
            most: times[times.len() - 1],
        }
    }
}

/// Prints a table. `floor` is the time of floor B, the unit of ratios.
pub fn print(measurements: &[Measurement], floor: f64) {
    let names = measurements.iter().map(|it| it.name.len());
    let width = names.max().unwrap_or_default();
    println!(
        "{:width$}  {:>8} {:>7} {:>7} {:>7}",
        "", "floors B", "ns", "least", "most"
    );
    for Measurement {
        name,
        median,
        least,
        most,
    } in measurements
    {
        let ratio = median / floor;
        println!("{name:width$}  {ratio:>8.2} {median:>7.1} {least:>7.1} {most:>7.1}");
    }
}

/// Writes a file for programs.
pub fn write(path: &Path, measurements: &[Measurement], floor: f64) -> Result<()> {
    let cases: Vec<_> = measurements
        .iter()
        .map(|it| {
            json!({
                "name": it.name,
                "ns": round(it.median),
                "least_ns": round(it.least),
                "most_ns": round(it.most),
                "ratio": round(it.median / floor),
            })
        })
        .collect();
    let report = json!({ "floor_b_ns": round(floor), "cases": cases });
    let text = serde_json::to_string_pretty(&report)? + "\n";
    fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
}

/// To hundredths.
fn round(number: f64) -> f64 {
    (number * 100.).round() / 100.
}
