use outbox::message::NewMessage;

use crate::Scale;
use crate::report::{Report, Target, median};

/// What is changed in the message of this number.
pub(crate) type Dress = fn(usize, NewMessage) -> NewMessage;

/// Something that has a first and a second half, and settings.
pub(crate) trait Trial {
    /// What the halves are.
    const HALVES: [&str; 2];

    /// Messages a second in each half, on a fresh file.
    fn rates(&self, scale: &Scale) -> [f64; 2];
}

/// Adds a row for each half of each of the `others`, beside `basis`; all of them take turns.
pub(crate) fn compare<T: Trial>(
    (scale, report): (&Scale, &mut Report),
    (id, target): (&str, Target),
    basis: &T,
    others: &[(&str, T)],
) {
    let mut first = [Vec::new(), Vec::new()];
    let mut rest = vec![[Vec::new(), Vec::new()]; others.len()];
    for _ in 0..scale.rounds {
        note(&mut first, basis.rates(scale));
        for ((_, other), rates) in others.iter().zip(&mut rest) {
            note(rates, other.rates(scale));
        }
    }
    let basis = first.map(|mut rates| median(&mut rates));
    for ((what, _), rates) in others.iter().zip(rest) {
        let ours = rates.map(|mut rates| median(&mut rates));
        for (half, name) in T::HALVES.iter().enumerate() {
            let variant = format!("{what}: {name}, messages/s");
            report.ratio(id, &variant, (ours[half], basis[half]), target);
        }
    }
}

fn note(rates: &mut [Vec<f64>; 2], more: [f64; 2]) {
    for (rates, rate) in rates.iter_mut().zip(more) {
        rates.push(rate);
    }
}
