//! A deterministic simulator that runs Seawall's policies against overload and retry storms.
