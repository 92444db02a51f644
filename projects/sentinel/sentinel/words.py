"""Words of geography and land cover, and the texts made from them for the distillation of the text tower."""

from collections.abc import Sequence

import numpy as np

__all__ = ["ADJECTIVES", "CLASS_NAMES", "NOUNS", "PROMPTS", "combine", "in_prompt"]

PROMPTS = (  # the first three are the most likely at inference
    "{}",
    "A photo of a {} in the scene",
    "a satellite image of {}",
    "an aerial photo of {}",
    "a photo of a {}",
    "a satellite photo of a {}",
    "an aerial view of the {}",
    "a Sentinel-2 image of {}",
    "a radar image of {}",
    "a picture of {} from above",
    "{} seen from space",
    "there is {} in the scene",
)

# Names that people give to land cover, which the image encoder learns and the measurements choose from.
CLASS_NAMES = """
water; river; lake; sea; ocean; reservoir; canal; pond; stream; coast; beach; sand; desert; dune; island; forest;
trees; woodland; tree cover; shrubs; shrubland; grass; grassland; meadow; pasture; rangeland; savanna; farmland;
cropland; crops; fields; orchard; vineyard; rice paddy; greenhouse; wetland; swamp; marsh; mangrove; bare ground; bare
soil; rock; mountain; hills; valley; snow; ice; glacier; city; town; village; buildings; houses; built-up area;
residential area; dense residential area; industrial area; commercial area; factory; warehouse; road; highway;
railway; railway station; bridge; viaduct; airport; runway; port; harbor; ship; parking lot; storage tanks; park;
garden; playground; school; stadium; square; church; resort; baseball field; football field; golf course; quarry;
mine; landfill; solar farm; wind farm; power station; dam; burnt area; flooded area; cloud; shadow
"""

NOUNS = """
water; river; lake; sea; ocean; reservoir; canal; pond; stream; creek; brook; lagoon; bay; gulf; strait; estuary;
delta; fjord; inlet; waterfall; rapids; spring; oasis; floodplain; river bed; riverbank; lakeshore; shoreline; coast;
coastline; beach; sandbank; sandbar; spit; reef; atoll; island; peninsula; cape; cliff; tidal flat; mudflat; salt
marsh; salt flat; salt pan; salt pond; fish pond; aquaculture; shrimp farm; seaweed; algae; sand; desert; dune;
gravel; pebbles; rock; boulder; bedrock; scree; lava; lava field; volcano; crater; caldera; canyon; gorge; ravine;
gully; valley; plain; plateau; mesa; hill; hillside; slope; ridge; mountain; mountain range; peak; summit; foothills;
moraine; glacier; ice; ice sheet; iceberg; snow; snowfield; permafrost; tundra; taiga; steppe; prairie; savanna; bush;
scrub; shrub; shrubland; heath; heather; moor; bog; peat; peatland; fen; marsh; swamp; wetland; mangrove; reed; reed
bed; rushes; moss; lichen; fern; grass; grassland; meadow; pasture; rangeland; hay; lawn; turf; weeds; forest;
woodland; wood; trees; tree; grove; thicket; rainforest; jungle; canopy; undergrowth; clearing; clear-cut; plantation;
nursery; orchard; hedge; hedgerow; oak; pine; spruce; fir; larch; birch; beech; poplar; willow; alder; eucalyptus;
acacia; bamboo; palm; palm grove; oil palm; coconut palm; olive grove; citrus grove; apple orchard; almond orchard;
cherry orchard; banana plantation; vineyard; vines; hop field; farmland; cropland; field; crops; arable land; fallow
land; stubble; furrow; terrace; paddy; rice; wheat; barley; rye; oats; maize; corn; sorghum; millet; soybean; beans;
peas; lentils; chickpeas; potato; sugar beet; sugarcane; cotton; flax; hemp; tobacco; tea; coffee; cocoa; rubber;
sunflower; rapeseed; canola; mustard; alfalfa; clover; vegetables; tomato; cabbage; lettuce; onion; strawberry;
lavender; flowers; tulip field; greenhouse; polytunnel; farm; farmhouse; barn; stable; silo; cattle; cows; sheep;
herd; livestock; feedlot; irrigation; irrigation channel; ditch; drainage; levee; dike; embankment; dam; weir; lock;
pier; jetty; dock; quay; wharf; harbor; port; marina; shipyard; ship; boat; ferry; barge; container ship; oil
platform; lighthouse; breakwater; seawall; city; town; village; hamlet; suburb; settlement; slum; neighborhood; city
center; downtown; street; avenue; alley; road; dirt road; path; trail; highway; motorway; interchange; roundabout;
intersection; bridge; viaduct; tunnel; railway; railroad; tracks; rail yard; railway station; train; tram; subway; bus
station; airport; airfield; runway; taxiway; hangar; terminal; helipad; airplane; helicopter; car; truck; traffic;
parking lot; garage; gas station; house; houses; villa; cottage; mansion; apartment; apartment block; tower;
skyscraper; building; roof; courtyard; block; construction site; crane; ruin; school; university; campus; hospital;
church; mosque; temple; cathedral; castle; palace; fortress; monument; cemetery; prison; museum; library; market;
shopping mall; supermarket; store; hotel; resort; restaurant; office; bank; square; plaza; park; garden; playground;
zoo; amusement park; swimming pool; fountain; campsite; stadium; arena; racetrack; sports field; football field;
soccer pitch; baseball field; tennis court; basketball court; golf course; ski slope; factory; plant; warehouse;
industrial area; commercial area; residential area; built-up area; business park; refinery; chimney; storage tank; oil
tank; gas tank; pipeline; power plant; power station; power line; substation; pylon; nuclear plant; cooling tower;
wind turbine; wind farm; solar panel; solar farm; sewage plant; water tower; treatment plant; landfill; dump;
scrapyard; quarry; mine; open-pit mine; coal; tailings; gravel pit; sand pit; oil well; oil field; drill site; cement;
concrete; asphalt; pavement; gravel road; brick; metal; military base; barracks; bunker; border; fence; wall; soil;
bare soil; bare ground; ground; dirt; mud; clay; dust; peat soil; erosion; landslide; debris; flood; floodwater; fire;
wildfire; smoke; ash; burn scar; drought; storm; cloud; fog; haze; shadow; rain; land; landscape; terrain; vegetation;
plants; leaves; wilderness; nature reserve; national park; tree cover; green space
"""

ADJECTIVES = """
burnt; burned; flooded; dry; wet; bare; green; brown; yellow; red; white; black; gray; blue; dark; bright; pale;
muddy; sandy; rocky; stony; grassy; bushy; leafy; dusty; snowy; snow-covered; icy; frozen; melting; swampy; marshy;
salty; clear; clean; polluted; turbid; shallow; deep; calm; rough; wide; narrow; winding; straight; curved; long;
short; big; large; small; tiny; huge; tall; high; low; steep; flat; hilly; mountainous; round; square; rectangular;
circular; irregular; terraced; irrigated; rainfed; plowed; ploughed; harvested; sown; planted; mown; grazed; fallow;
fertile; barren; arid; semi-arid; tropical; temperate; boreal; alpine; arctic; mediterranean; coastal; inland;
riverside; tidal; urban; suburban; rural; remote; dense; sparse; scattered; open; closed; mixed; deciduous; evergreen;
coniferous; broadleaf; young; old; mature; dead; dying; healthy; degraded; deforested; logged; cleared; protected;
natural; wild; artificial; man-made; cultivated; agricultural; industrial; commercial; residential; abandoned; ruined;
damaged; destroyed; collapsed; new; modern; historic; busy; empty; crowded; quiet; paved; unpaved; elevated;
underground; floating; submerged; eroded; cracked; shady; sunny; cloudy; foggy; autumn; winter; spring; summer
"""

LINKS = ("near a", "beside the", "next to the", "surrounded by", "with", "and", "between", "along the", "without")


def split(names: str) -> list[str]:
    """Names separated by semicolons, each once, in their order."""
    return list(dict.fromkeys(" ".join(name.split()) for name in names.split(";")))


CLASS_NAMES, NOUNS, ADJECTIVES = split(CLASS_NAMES), split(NOUNS), split(ADJECTIVES)


def combine(number: int, generator: np.random.Generator) -> list[str]:
    """Different phrases, such as "burnt forest", "wide dry river bed", "tea plantation", "houses near a lake".

    Args:
        number: of phrases.
        generator: the source of chance.
    """

    def choose(words: Sequence[str]) -> str:
        return words[generator.integers(len(words))]

    phrases: dict[str, None] = {}
    while len(phrases) < number:
        first, second = choose(NOUNS), choose(NOUNS)
        adjective, other = choose(ADJECTIVES), choose(ADJECTIVES)
        forms = (
            f"{adjective} {first}",
            f"{adjective} {first}",
            f"{adjective} {other} {first}",
            f"{first} {second}",
            f"{first} {choose(LINKS)} {second}",
            f"{adjective} {first} {choose(LINKS)} {second}",
        )
        phrases[choose(forms)] = None
    return list(phrases)


def in_prompt(text: str, prompt: str) -> str:
    """``text`` in place of the prompt's ``{}``."""
    return prompt.replace("{}", text)
