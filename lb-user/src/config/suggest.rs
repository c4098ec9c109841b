//! "Did you mean": the nearest of the names that would have been right.

use strsim::damerau_levenshtein;

/// Names looked at for one suggestion, so that a file full of mistakes is still answered at once.
const MAX_CANDIDATES: usize = 1000;

/// `; did you mean ...?` if a candidate is near enough to `name`, else nothing.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let near = (name.len() / 3).max(1);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= near)
        .map(|candidate| (damerau_levenshtein(name, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= near && distance < candidate.len())
        .min()
        .map_or_else(String::new, |(_, candidate)| {
            format!("; did you mean `{candidate}`?")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested() {
        assert_eq!(
            did_you_mean("web-l", ["db-1", "web-10", "web-1"]),
            "; did you mean `web-1`?"
        );
    }

    #[test]
    fn nothing_is_suggested_for_a_name_like_no_other() {
        assert_eq!(did_you_mean("http", ["tcp", "udp"]), "");
        assert_eq!(did_you_mean("mail", ["web-1", "web-2"]), "");
        assert_eq!(did_you_mean("b", ["a"]), "");
    }
}
