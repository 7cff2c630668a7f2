package photos

import "embed"

//go:embed *.jpg
var files embed.FS

// Photo is one photograph.
type Photo struct {
	Name    string // file name, e.g. "bridge.jpg"
	Data    []byte // the JPEG; not to be changed
	Title   string
	Author  string
	Licence string // SPDX identifier
	Caption string // a sentence with hashtags, as a user would write it
}

var list = []Photo{
	{Name: "bridge.jpg", Title: "Bridge", Author: "Sander Klootwijk", Licence: "CC-BY-SA-4.0",
		Caption: "Cables, sky, and the flat land behind. #bridge #sky"},
	{Name: "friends.jpg", Title: "Friends", Author: "Aitzol Berasategi", Licence: "CC-BY-4.0",
		Caption: "They watch the street all afternoon. #dogs #friends"},
	{Name: "fig.jpg", Title: "Half a fig", Author: "Trevor \"Freespace\"", Licence: "CC-BY-4.0",
		Caption: "Breakfast in the sun. #food #red"},
	{Name: "stream.jpg", Title: "Life", Author: "Aitzol Berasategi", Licence: "CC-BY-4.0",
		Caption: "Up the stream, slowly. #forest #water"},
	{Name: "dandelion.jpg", Title: "Seeding", Author: "Clemens Engelhardt", Licence: "CC0-1.0",
		Caption: "One breath and they are gone. #summer #meadow"},
	{Name: "wine.jpg", Title: "Wine", Author: "Jakub Mede", Licence: "CC-BY-4.0",
		Caption: "A quiet evening, a drum, a glass. #home"},
	{Name: "picos.jpg", Title: "Picos de Europa", Author: "Aitzol Berasategi", Licence: "CC-BY-4.0",
		Caption: "The path goes on behind the ridge. #mountains #hiking"},
	{Name: "bird.jpg", Title: "Free", Author: "Peter Nerlich", Licence: "CC-BY-SA-4.0",
		Caption: "The lamp has a visitor. #bird #light"},
	{Name: "brushes.jpg", Title: "Brushes", Author: "Trevor \"Freespace\"", Licence: "CC-BY-4.0",
		Caption: "Washed, and still every colour. #studio #paint"},
	{Name: "sunset.jpg", Title: "Sunset", Author: "Aitzol Berasategi", Licence: "CC-BY-4.0",
		Caption: "Last light from the top. #sunset #mountains"},
	{Name: "nuthatch.jpg", Title: "Nuthatch", Author: "Lukas Baubkus", Licence: "CC-BY-SA-3.0",
		Caption: "Head first, as always. #bird #forest"},
	{Name: "sea.jpg", Title: "Infinite sea", Author: "Aury88", Licence: "CC-BY-SA-3.0",
		Caption: "The milky way over no shore at all. #night #sea"},
}

// All returns the photographs in a fixed order. The slice is the caller's, the
// Data are not.
func All() []Photo {
	out := make([]Photo, len(list))
	copy(out, list)
	for i := range out {
		out[i].Data = read(out[i].Name)
	}
	return out
}

// ByName returns the photograph of that file name. It panics when there is
// none: names are constants of the caller.
func ByName(name string) Photo {
	for _, p := range list {
		if p.Name == name {
			p.Data = read(name)
			return p
		}
	}
	panic("photos: no photograph named " + name)
}

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		panic("photos: " + err.Error()) // a list entry without its file: a build fault
	}
	return b
}
