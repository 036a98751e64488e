//! Rows under headings, in columns as wide as their widest cell.

use std::fmt;

use crate::output;

/// Which side of a column its cells stand at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[(&str, Side)]) -> Self {
        let names = headings.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { sides: headings.iter().map(|(_, side)| *side).collect(), rows: vec![names] }
    }

    /// One cell a column. Cells are shown on one line and can't steer the terminal.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let plain = |cell: String| output::safe(&cell.replace(['\n', '\t'], " "));
        self.rows.push(cells.into_iter().map(plain).collect());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.sides.len()).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.sides);
            let padded = cells.map(|((cell, width), side)| match side {
                Side::Left => format!("{cell:width$}"),
                Side::Right => format!("{cell:>width$}"),
            });
            let line = padded.collect::<Vec<_>>().join("  ");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table =
            Table::new(&[("NAME", Side::Left), ("CALLS", Side::Right), ("", Side::Left)]);
        table.row(vec!["é".into(), "12".into(), "a\nb".into()]);
        assert_eq!(table.to_string(), "NAME  CALLS\né        12  a b\n");
    }
}
