"""The words that the quickstart's instructions are made of. Few, so that a tiny model meets each one often."""

CATEGORIES = {
    "an animal": ("cat", "dog", "horse", "cow", "sheep", "fox", "bear", "goose"),
    "food": ("apple", "bread", "cheese", "rice", "soup", "cake", "honey", "plum"),
    "a tool": ("hammer", "saw", "ladder", "rope", "needle", "brush", "drill", "spade"),
    "something to wear": ("hat", "coat", "shoe", "glove", "scarf", "shirt", "sock", "belt"),
}
WORDS = tuple(word for words in CATEGORIES.values() for word in words)
OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("old", "new"), ("fast", "slow"), ("wet", "dry"), ("hard", "soft"),
    ("light", "dark"), ("full", "empty"), ("early", "late"), ("near", "far"), ("loud", "quiet"), ("thick", "thin"),
)
NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Karla", "Leo")
TOWNS = ("Oslo", "Lima", "Rome", "Cairo", "Kyoto", "Lyon", "Porto", "Quito")
COLOURS = ("red", "green", "blue", "yellow", "white", "black", "brown", "pink")
GAMES = ("chess", "tennis", "golf", "hockey", "poker", "cards", "darts", "rugby")
CODE = ("bim", "dax", "wug", "lor", "tep", "kiv", "nal", "fom", "rud", "zet", "pag", "sul")
