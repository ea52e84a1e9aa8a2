//! Train and dev sets that share no speaker, chosen by the seed.

use super::report::SplitKind;
use super::{Accepted, PrepareOptions};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Parts `rows` into train and dev, each in the order found.
///
/// Whole speakers go to dev, in random order, as long as they fit into the dev share; at least one does if there are
/// two speakers. Rows of unknown speakers stay in training, unless all speakers are unknown or there is only one:
/// then single utterances are parted, those of the same text together.
pub(super) fn split(
    rows: Vec<Accepted>,
    options: &PrepareOptions,
) -> (Vec<Accepted>, Vec<Accepted>, SplitKind) {
    if rows.iter().any(|row| row.found.official_dev) {
        let (dev, train) = rows.into_iter().partition(|row| row.found.official_dev);
        return (train, dev, SplitKind::Official);
    }
    if options.dev_share == 0.0 {
        return (rows, Vec::new(), SplitKind::None);
    }
    let speakers: BTreeSet<&String> = rows
        .iter()
        .filter_map(|row| row.found.speaker.as_ref())
        .collect();
    let by_speaker = speakers.len() >= 2;
    let group = |row: &Accepted| {
        if by_speaker {
            row.found.speaker.clone()
        } else {
            Some(row.text.clone())
        }
    };
    let mut seconds: BTreeMap<String, f64> = BTreeMap::new();
    for row in &rows {
        if let Some(group) = group(row) {
            *seconds.entry(group).or_default() += row.seconds;
        }
    }
    let mut groups: Vec<(String, f64)> = seconds.into_iter().collect();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    let wanted = options.dev_share * rows.iter().map(|row| row.seconds).sum::<f64>();
    let mut taken = 0.0;
    let mut dev_groups = BTreeSet::new();
    for (group, seconds) in &groups {
        if dev_groups.len() + 1 < groups.len() && taken + seconds <= wanted {
            taken += seconds;
            dev_groups.insert(group.clone());
        }
    }
    // A share smaller than any group still gets the smallest, so that there is something to judge on.
    if dev_groups.is_empty()
        && groups.len() >= 2
        && let Some((group, _)) = groups.iter().min_by(|a, b| a.1.total_cmp(&b.1))
    {
        dev_groups.insert(group.clone());
    }
    let (dev, train): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| group(row).is_some_and(|group| dev_groups.contains(&group)));
    let kind = match (dev.is_empty(), by_speaker) {
        (true, _) => SplitKind::None,
        (false, true) => SplitKind::BySpeaker,
        (false, false) => SplitKind::ByUtterance,
    };
    (train, dev, kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prepare::layouts::Found;
    use proptest::prelude::*;

    fn row(speaker: Option<&str>, text: &str, seconds: f64) -> Accepted {
        Accepted {
            found: Found {
                audio: "a.wav".into(),
                part: None,
                text: text.to_owned(),
                speaker: speaker.map(str::to_owned),
                official_dev: false,
            },
            text: text.to_owned(),
            seconds,
        }
    }

    fn options(dev_share: f64, seed: u64) -> PrepareOptions {
        PrepareOptions {
            dev_share,
            seed,
            ..PrepareOptions::new("", "")
        }
    }

    #[test]
    fn kinds_follow_from_the_speakers() {
        let cases: [(&[Option<&str>], f64, SplitKind); 5] = [
            (&[Some("a"), Some("b")], 0.01, SplitKind::BySpeaker),
            (&[Some("a"), Some("a")], 0.5, SplitKind::ByUtterance),
            (&[None, None], 0.5, SplitKind::ByUtterance),
            (&[None], 0.5, SplitKind::None),
            (&[Some("a"), Some("b")], 0.0, SplitKind::None),
        ];
        for (speakers, share, expected) in cases {
            let rows = speakers
                .iter()
                .enumerate()
                .map(|(index, speaker)| row(*speaker, &index.to_string(), 1.0))
                .collect();
            let (train, dev, kind) = split(rows, &options(share, 1));
            assert_eq!(kind, expected, "{speakers:?}");
            assert_eq!(dev.is_empty(), kind == SplitKind::None);
            assert!(!train.is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_speaker_is_in_both_and_the_share_is_kept(
            speakers in proptest::collection::vec((0u8..40, 0.5f64..5.0), 60..200),
            seed in any::<u64>(),
        ) {
            let rows: Vec<Accepted> = speakers
                .iter()
                .map(|(speaker, seconds)| row(Some(&speaker.to_string()), "x", *seconds))
                .collect();
            let (train, dev, _) = split(rows.clone(), &options(0.2, seed));
            prop_assert_eq!(train.len() + dev.len(), rows.len());
            for row in &dev {
                prop_assert!(train.iter().all(|other| other.found.speaker != row.found.speaker));
            }
            let seconds = |rows: &[Accepted]| rows.iter().map(|row| row.seconds).sum::<f64>();
            prop_assert!(seconds(&dev) <= 0.2 * seconds(&rows) + 1e-9);
            let again = split(rows, &options(0.2, seed));
            prop_assert_eq!(again.1.len(), dev.len());
        }
    }
}
