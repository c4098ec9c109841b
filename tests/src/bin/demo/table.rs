//! The live table: redrawn on a terminal, a line for each second elsewhere.

use std::{
    io::{IsTerminal, stdout},
    time::Instant,
};

use crate::traffic::{Tally, Traffic};

/// Shows how many requests a second each real server answers.
pub struct Table<'a> {
    traffic: &'a Traffic,
    servers: Vec<String>,
    start: Instant,
    last: Instant,
    tallies: Vec<Tally>,
    /// Lines that the next drawing replaces.
    drawn: usize,
}

impl<'a> Table<'a> {
    pub fn new(traffic: &'a Traffic, servers: Vec<String>) -> Self {
        if !stdout().is_terminal() {
            let names: String = servers
                .iter()
                .map(|server| format!("{server:>9}"))
                .collect();
            println!("{:<29}{names}{:>9}", "requests a second", "sum");
        }
        let now = Instant::now();
        Self {
            traffic,
            servers,
            start: now,
            last: now,
            tallies: traffic.tallies(),
            drawn: 0,
        }
    }

    /// Shows what came since it was last drawn.
    pub fn draw(&mut self, title: &str) {
        let tallies = self.traffic.tallies();
        let seconds = self.last.elapsed().as_secs_f64();
        let since: Vec<_> = tallies
            .iter()
            .zip(&self.tallies)
            .map(|(now, then)| now.since(then))
            .collect();
        let elapsed = self.start.elapsed().as_secs();
        if stdout().is_terminal() {
            let lines = self.lines(elapsed, title, &since, &tallies, seconds);
            if self.drawn > 0 {
                print!("\x1b[{}A\x1b[J", self.drawn);
            }
            println!("{}", lines.join("\n"));
            self.drawn = lines.len();
        } else {
            let rates = self.rates(&Tally::sum(&since), seconds);
            let failed = Tally::sum(&tallies).failed;
            println!("{elapsed:3} s  {title:<22}{rates}, {failed} failed in all");
        }
        (self.last, self.tallies) = (Instant::now(), tallies);
    }

    /// Leaves what is drawn where it is.
    pub fn settle(&mut self) {
        self.drawn = 0;
    }

    fn lines(
        &self,
        elapsed: u64,
        title: &str,
        since: &[Tally],
        tallies: &[Tally],
        seconds: f64,
    ) -> Vec<String> {
        let names: String = self
            .servers
            .iter()
            .map(|server| format!("{server:>9}"))
            .collect();
        let mut lines = vec![
            format!("{elapsed:3} s  {title}"),
            format!(
                "{:<34}{names}{:>9}{:>9}{:>9}",
                "requests/s", "sum", "in all", "failed"
            ),
        ];
        for ((service, rate), tally) in self.traffic.services().zip(since).zip(tallies) {
            let at = format!(
                "{:<8}{} {}",
                service.name, service.protocol, service.address
            );
            let rates = self.rates(rate, seconds);
            lines.push(format!(
                "{at:<34}{rates}{:>9}{:>9}",
                tally.total(),
                tally.failed
            ));
        }
        lines
    }

    /// The rate of each server and their sum.
    fn rates(&self, tally: &Tally, seconds: f64) -> String {
        let counts = self
            .servers
            .iter()
            .map(|server| tally.of(server))
            .chain([tally.total()]);
        counts
            .map(|count| format!("{:>9.0}", count as f64 / seconds))
            .collect()
    }
}
