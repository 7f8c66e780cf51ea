//! `nachos status` and `nachos doctor`: what every component says about itself, and what it means that one says nothing.

mod ask;
mod doctor;
mod status;

pub(crate) use doctor::doctor;
pub(crate) use status::{StatusArgs, status};
