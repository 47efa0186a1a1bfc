//! Things under way, by a name that is never used twice.

/// Names a thing in a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u64);

impl Id {
    /// As a number, which a queue can hold.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// The thing of this number.
    pub(crate) const fn of(number: u64) -> Id {
        Id(number)
    }

    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    item: Option<T>,
}

/// Things by their names; a place is used again, a name is not.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn add(&mut self, item: T) -> Id {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.places.push(Place { generation: 0, item: None });
                u32::try_from(self.places.len() - 1).expect("memory ends before 2³² things do")
            }
        };
        let place = &mut self.places[index as usize];
        place.item = Some(item);
        Id(u64::from(place.generation) << 32 | u64::from(index))
    }

    pub(crate) fn get(&mut self, id: Id) -> Option<&mut T> {
        let place = self.places.get_mut(id.index())?;
        place.item.as_mut().filter(|_| u64::from(place.generation) == id.0 >> 32)
    }

    pub(crate) fn take(&mut self, id: Id) -> Option<T> {
        let place = self.places.get_mut(id.index())?;
        if u64::from(place.generation) != id.0 >> 32 {
            return None;
        }
        let item = place.item.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index() as u32);
        Some(item)
    }

    /// Drops a thing where it stands.
    pub(crate) fn remove(&mut self, id: Id) {
        let Some(place) = self.places.get_mut(id.index()) else { return };
        if place.item.is_some() && u64::from(place.generation) == id.0 >> 32 {
            place.item = None;
            place.generation = place.generation.wrapping_add(1);
            self.free.push(id.index() as u32);
        }
    }

    /// The names of those for which it holds, in the order of their places.
    pub(crate) fn ids(&self, holds: impl Fn(&T) -> bool) -> Vec<Id> {
        let named = |(index, place): (usize, &Place<T>)| {
            let id = Id(u64::from(place.generation) << 32 | index as u64);
            place.item.as_ref().filter(|item| holds(item)).map(|_| id)
        };
        self.places.iter().enumerate().filter_map(named).collect()
    }

    /// How many there are for which it holds.
    pub(crate) fn count(&self, holds: impl Fn(&T) -> bool) -> u64 {
        self.places.iter().filter(|place| place.item.as_ref().is_some_and(&holds)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_used_twice() {
        let mut slab = Slab::new();
        let first = slab.add('a');
        assert_eq!(slab.take(first), Some('a'));
        let second = slab.add('b');
        assert_eq!(first.index(), second.index());
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.take(first), None);
        assert_eq!(slab.get(second), Some(&mut 'b'));
    }
}
