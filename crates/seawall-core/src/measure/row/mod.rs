//! Failures in a row, of which some look like successes at first.
//!
//! A success ends the row. When its answer breaks off later it was none, and the row goes on as if it had never
//! ended: or a callee that begins every answer well and breaks it off would never fail twice in a row. Which
//! success it was is not asked; it is taken for the youngest. What is remembered is the row that the last
//! successes ended, and how many these are; of rows before that one nothing is known, and none comes back.

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    failures: u32,
    /// Successes between the row before and this one, without those that broke off.
    fine: u32,
    /// The row that they ended.
    before: u32,
}

impl Row {
    /// How many calls have failed since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A call has failed.
    pub fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// So many calls have succeeded.
    pub fn succeed(&mut self, calls: u32) {
        if self.failures > 0 {
            *self = Row { failures: 0, fine: 0, before: self.failures };
        }
        self.fine = self.fine.saturating_add(calls);
    }

    /// A call that had succeeded has failed after all.
    pub fn break_off(&mut self) {
        self.fail();
        self.fine = self.fine.saturating_sub(1);
        if self.fine == 0 {
            self.failures = self.failures.saturating_add(core::mem::take(&mut self.before));
        }
    }
}

#[cfg(test)]
mod tests;
