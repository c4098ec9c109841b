//! How slow each case of the packet benchmark may be: what a run before has measured, and a margin.
//!
//! What is compared is not time, which differs from machine to machine, but its multiple of the least that any balancer does
//! (floor B) in the same run.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace;

/// A case is slower if its ratio is more than so many times the saved one,
const FACTOR: f64 = 1.35;
/// and by more than this.
const DIFFERENCE: f64 = 0.5;

/// By name of the case, its time as a multiple of floor B.
#[derive(Debug, PartialEq)]
pub struct Ratios(BTreeMap<String, f64>);

/// The file that is part of the repository.
pub fn path() -> PathBuf {
    workspace::root().join("tests/benches/packets.json")
}

impl Ratios {
    /// Those that were saved.
    ///
    /// # Errors
    /// There are none, or the file is broken.
    pub fn saved() -> Result<Self> {
        Self::read(&path(), |file| {
            let cases = file.as_object()?.iter();
            cases
                .map(|(name, ratio)| Some((name.clone(), ratio.as_f64()?)))
                .collect()
        })
    }

    /// Those in the file that the benchmark writes.
    ///
    /// # Errors
    /// There is none, or it is broken.
    pub fn of_report(path: &Path) -> Result<Self> {
        Self::read(path, |file| {
            let cases = file["cases"].as_array()?.iter();
            cases
                .map(|case| Some((case["name"].as_str()?.to_owned(), case["ratio"].as_f64()?)))
                .collect()
        })
    }

    fn read(
        path: &Path,
        ratios: impl FnOnce(&Value) -> Option<BTreeMap<String, f64>>,
    ) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text)
            .ok()
            .and_then(|file| ratios(&file))
            .map(Self)
            .with_context(|| format!("{} has no ratios of the packet benchmark", path.display()))
    }

    /// Puts them in the place of those that were saved.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.0)? + "\n";
        fs::write(path(), text).with_context(|| format!("cannot write {}", path().display()))
    }

    /// What is wrong with a later run. A whole one has all cases.
    pub fn problems_of(&self, measured: &Self, is_whole: bool) -> Vec<String> {
        let slower = measured.0.iter().filter_map(|(name, ratio)| {
            let Some(saved) = self.0.get(name) else {
                return Some(format!("{name}: not saved yet (cargo xtask bench --save)"));
            };
            let most = f64::max(saved * FACTOR, saved + DIFFERENCE);
            (*ratio > most).then(|| {
                format!("{name}: {ratio:.2} floors B, saved were {saved:.2}, at most {most:.2}")
            })
        });
        let gone = self.0.keys().filter(|name| !measured.0.contains_key(*name));
        let gone = gone.map(|name| format!("{name}: saved, but not measured any more"));
        slower.chain(gone.filter(|_| is_whole)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratios(cases: &[(&str, f64)]) -> Ratios {
        let cases = cases.iter();
        Ratios(cases.map(|&(name, ratio)| (name.into(), ratio)).collect())
    }

    #[test]
    fn a_little_slower_is_noise() {
        let saved = ratios(&[("fast", 1.0), ("slow", 10.0)]);
        let measured = ratios(&[("fast", 1.49), ("slow", 13.4)]);
        assert_eq!(saved.problems_of(&measured, true), [""; 0]);
    }

    #[test]
    fn much_slower_is_named() {
        let saved = ratios(&[("fast", 1.0), ("medium", 2.0), ("slow", 10.0)]);
        let measured = ratios(&[("fast", 1.51), ("medium", 2.0), ("slow", 13.6)]);
        assert_eq!(
            saved.problems_of(&measured, true),
            [
                "fast: 1.51 floors B, saved were 1.00, at most 1.50",
                "slow: 13.60 floors B, saved were 10.00, at most 13.50",
            ]
        );
    }

    #[test]
    fn faster_is_no_problem() {
        let saved = ratios(&[("case", 10.0)]);
        assert_eq!(saved.problems_of(&ratios(&[("case", 1.0)]), true), [""; 0]);
    }

    #[test]
    fn cases_that_come_and_go_are_named_but_not_those_left_out() {
        let saved = ratios(&[("gone", 1.0)]);
        let measured = ratios(&[("new", 1.0)]);
        let new = "new: not saved yet (cargo xtask bench --save)";
        assert_eq!(saved.problems_of(&measured, false), [new]);
        assert_eq!(
            saved.problems_of(&measured, true),
            [new, "gone: saved, but not measured any more"]
        );
    }

    #[test]
    fn the_saved_ratios_are_there() {
        assert!(Ratios::saved().unwrap().0.len() > 10);
    }

    #[test]
    fn a_report_has_a_ratio_for_each_case() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let report = r#"{"floor_b_ns": 15.0, "cases": [{"name": "a", "ns": 30.0, "ratio": 2.0}]}"#;
        fs::write(&file, report).unwrap();
        assert_eq!(
            Ratios::of_report(file.path()).unwrap(),
            ratios(&[("a", 2.0)])
        );
        fs::write(&file, "{}").unwrap();
        let error = Ratios::of_report(file.path()).unwrap_err().to_string();
        assert!(
            error.ends_with("has no ratios of the packet benchmark"),
            "{error}"
        );
    }
}
