//! Health: asks each host now and then whether it is well.
//!
//! **Prevents** calls to a host that cannot answer, without spending a single call to find that out,
//! and finds out when it is back although nobody calls it.
//!
//! ```text
//!                first check passed                 `fall` failed in a row
//!   Unknown ─────────────────────────▶ Well ───────────────────────────────▶ Unwell
//!      │                                ▲                                     ▲  │
//!      │                                └──────── `rise` passed in a row ─────┼──┘
//!      └──────────────────────── first check failed ──────────────────────────┘
//! ```
//!
//! **Mechanics.** [`Health::due`] says whom to ask now; the driver asks and says with
//! [`Health::report`] how it went. Each host is asked every `every`, a tenth more or less, and the first
//! time anywhere within `every`, so that neither hosts nor instances are asked in step.
//!
//! **Edges.** A host of which nothing is known passes for well: a process that starts does not begin
//! with an outage. Its first check decides alone. A probe is a lease: one that is not reported `within`
//! has failed, and what is reported of it later is ignored; so is a probe of a host that has gone.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::rng::Rng;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

/// The most checks in a row that `fall` and `rise` may ask for.
pub const IN_A_ROW_MAX: u32 = 100;

/// How hosts are checked. [`Health::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The time between two checks of a host; longer than zero, default 2 s.
    pub every: Span,
    /// The time in which a check must have passed; longer than zero, default 1 s.
    pub within: Span,
    /// Failed checks in a row after which a host is unwell, 1 to [`IN_A_ROW_MAX`]; default 3.
    pub fall: u32,
    /// Passed checks in a row after which it is well, 1 to [`IN_A_ROW_MAX`]; default 2.
    pub rise: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { every: Span::from_secs(2), within: Span::from_secs(1), fall: 3, rise: 2 }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        check(settings.every > Span::ZERO, "every", "longer than zero")?;
        check(settings.within > Span::ZERO, "within", "longer than zero")?;
        check((1..=IN_A_ROW_MAX).contains(&settings.fall), "fall", "1 to 100")?;
        check((1..=IN_A_ROW_MAX).contains(&settings.rise), "rise", "1 to 100")?;
        Ok(Config(settings))
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The host says that it is well.
    Passed,
    /// It does not, or says nothing.
    Failed,
    /// It was not asked, for want of something that is not the host's: this says nothing of it.
    Unmade,
}

impl From<bool> for Check {
    /// Passed by whom is well.
    fn from(is_well: bool) -> Check {
        if is_well { Check::Passed } else { Check::Failed }
    }
}

/// A check to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where the host is known.
    pub place: usize,
    /// When it has failed.
    pub deadline: Time,
    number: u64,
}

/// A host whose state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is well again.
    Well {
        /// Where it is known.
        place: usize,
    },
    /// It is unwell.
    Unwell {
        /// Where it is known.
        place: usize,
    },
}

/// What a host shows of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It has not been checked.
    Unknown,
    /// It is well.
    Well,
    /// It is not.
    Unwell,
}

impl Mode {
    /// Its name in metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Unknown => "unknown",
            Mode::Well => "well",
            Mode::Unwell => "unwell",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Patient {
    mode: Mode,
    /// Checks in a row that speak against the mode.
    against: u32,
    next: Time,
    probe: Option<Probe>,
}

/// Checks the hosts of a pool. They are known by their places, which the caller gives out.
#[derive(Debug)]
pub struct Health {
    config: Config,
    patients: Vec<Option<Patient>>,
    probes: u64,
    turns: VecDeque<Turn>,
}

impl Health {
    /// Without hosts.
    pub fn new(config: Config) -> Health {
        Health { config, patients: Vec::new(), probes: 0, turns: VecDeque::new() }
    }

    /// Other settings; states and the times of the next checks stay.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// A new host takes this place.
    pub fn join(&mut self, now: Time, place: usize, rng: &mut Rng) {
        if self.patients.len() <= place {
            self.patients.resize(place + 1, None);
        }
        let next = now + rng.span(Span::ZERO, self.config.0.every);
        self.patients[place] = Some(Patient { mode: Mode::Unknown, against: 0, next, probe: None });
    }

    /// The host at this place has gone.
    pub fn leave(&mut self, place: usize) {
        if let Some(patient) = self.patients.get_mut(place) {
            *patient = None;
        }
    }

    /// Whether the host at this place may be called.
    pub fn is_well(&self, place: usize) -> bool {
        self.mode(place) != Some(Mode::Unwell)
    }

    /// The state of the host at this place; `None` when there is none.
    pub fn mode(&self, place: usize) -> Option<Mode> {
        Some(self.patients.get(place)?.as_ref()?.mode)
    }

    /// When somebody is due: call [`Health::due`] then.
    pub fn wake_at(&self) -> Time {
        let next = |patient: &Patient| patient.probe.map_or(patient.next, |probe| probe.deadline);
        self.patients.iter().flatten().map(next).min().unwrap_or(Time::MAX)
    }

    /// A host to check now; call it until there is none. Probes that ran out have failed.
    pub fn due(&mut self, now: Time, rng: &mut Rng) -> Option<Probe> {
        for place in 0..self.patients.len() {
            if let Some(Patient { probe: Some(probe), .. }) = self.patients[place]
                && probe.deadline <= now
            {
                self.report(&probe, Check::Failed);
            }
            let Some(patient) = self.patients[place].as_mut() else { continue };
            if patient.probe.is_some() || now < patient.next {
                continue;
            }
            let every = self.config.0.every;
            let deadline = now + self.config.0.within;
            let probe = Probe { place, deadline, number: self.probes };
            self.probes += 1;
            patient.next = now + rng.span(every.scaled(0.9), every.scaled(1.1));
            patient.probe = Some(probe);
            return Some(probe);
        }
        None
    }

    /// Says how a check went.
    pub fn report(&mut self, probe: &Probe, check: Check) {
        let Some(patient) = self.patients.get_mut(probe.place).and_then(Option::as_mut) else { return };
        if patient.probe.is_none_or(|current| current.number != probe.number) {
            return; // It ran out, or was of another host.
        }
        patient.probe = None;
        if check == Check::Unmade {
            return;
        }
        let (agrees, needed) = match (patient.mode, check) {
            (Mode::Unknown, _) => (false, 1),
            (Mode::Well, check) => (check == Check::Passed, self.config.0.fall),
            (Mode::Unwell, check) => (check == Check::Failed, self.config.0.rise),
        };
        patient.against = if agrees { 0 } else { patient.against + 1 };
        if patient.against < needed {
            return;
        }
        patient.against = 0;
        let place = probe.place;
        match (patient.mode, check) {
            (Mode::Unknown, Check::Passed) => patient.mode = Mode::Well,
            (_, Check::Failed) => {
                patient.mode = Mode::Unwell;
                self.turns.push_back(Turn::Unwell { place });
            }
            (_, Check::Passed | Check::Unmade) => {
                patient.mode = Mode::Well;
                self.turns.push_back(Turn::Well { place });
            }
        }
    }

    /// The next change that nobody has pulled.
    pub fn turn(&mut self) -> Option<Turn> {
        self.turns.pop_front()
    }
}

#[cfg(test)]
mod tests;
