//! What people see: lines on standard output, progress on standard error where that is a terminal.
use std::io::{self, IsTerminal, Write};

/// Writes a line to standard output.
///
/// # Errors
/// Where nobody reads it any more.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// Writes a line to standard error.
pub fn remark(text: &str) {
    // Where nobody reads it, nobody misses it.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A line of progress that the next one replaces on a terminal; plain lines in a log.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    terminal: bool,
}

impl Progress {
    /// Shown, or silent.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        Self {
            shown,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// What is being done now.
    pub fn step(&self, text: &str) {
        if !self.shown {
            return;
        }
        let mut err = io::stderr().lock();
        // Progress is a courtesy: where it cannot be shown, work goes on.
        let _ = if self.terminal {
            write!(err, "\r\x1b[2K{text} …")
        } else {
            writeln!(err, "{text} …")
        };
        let _ = err.flush();
    }

    /// Clears the line.
    pub fn done(&self) {
        if self.shown && self.terminal {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// Rows as aligned columns, the first row the heading.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| {
        rows.iter()
            .filter_map(|r| r.get(c))
            .map(|t| t.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a".to_owned(), "b".to_owned()],
            vec!["long".to_owned(), "x".to_owned()],
        ];
        assert_eq!(table(&rows), "a     b\nlong  x");
    }
}
