"""Examples that Self-Instruct's prompts show: 12 tasks that are classifications and 19 that are not, and worked ones.

    CLASSIFIED[0]     # ("Say whether the review is positive or negative.", True)
    LABELLED[0]       # (task, "Class label: ...\\n..."), output first
    WORKED[0]         # (task, "Example 1\\n...\\nOutput: ..."), input first

As many of each kind, and in the same form, as in the published prompts; the tasks are our own.
"""

CLASSIFIED = (
    ("Say whether the tone of the review is positive or negative.", True),
    ("Suggest three dishes that can be cooked without an oven.", False),
    ("Decide whether the two statements agree, disagree, or have nothing to do with each other.", True),
    ("Explain to a child why the sky is blue.", False),
    ("Turn the list of ingredients into a shopping list by shelf.", False),
    ("Is the number prime? Answer yes or no.", True),
    ("Write a short letter that cancels a gym membership.", False),
    ("Name the part of speech of the word in brackets: noun, verb, adjective or adverb.", True),
    ("Give a synonym for each word of the list.", False),
    ("Summarize the article in two sentences.", False),
    ("Tell which of the four answers to the question is right.", True),
    ("Plan a weekend in a town by the sea for a family with two small children.", False),
    ("Which season does the poem describe?", True),
    ("Convert the temperature from Celsius to Fahrenheit.", False),
    ("Does the message ask for money? Reply with true or false.", True),
    ("Continue the story with one more paragraph.", False),
    ("Invent a name for a shop that mends bicycles, and say why it fits.", False),
    ("Sort the e-mail into work, private or advertising.", True),
    ("Translate the sentence into Portuguese.", False),
    ("Write a function that reverses a list without using the standard library.", False),
    ("Rate how formal the sentence is: casual, neutral or formal.", True),
    ("What would you ask somebody who has just come back from Antarctica?", False),
    ("Find the mistakes in the sentence and correct them.", False),
    ("Is the following a fact or an opinion?", True),
    ("Describe how to fold a paper boat, step by step.", False),
    ("Compose a rhyme about a cat that is afraid of mice.", False),
    ("Which continent does the country belong to?", True),
    ("Work out how long the journey takes at the given speed.", False),
    ("Give arguments for and against wearing uniforms at school.", False),
    ("Tell from the symptoms whether it is a cold or an allergy.", True),
    ("Make a table of the planets with their diameters.", False),
)

LABELLED = (
    ("Say whether the tone of the sentence is glad, sad or angry.",
     "Class label: glad\nSentence: We danced until the lamps went out, and nobody wanted to go home.\n"
     "Class label: sad\nSentence: Her chair at the table has been empty since March.\n"
     "Class label: angry\nSentence: For the third time they have lost my parcel, and nobody even says sorry!"),
    ("Does the second sentence follow from the first? Answer yes or no.",
     "Class label: yes\nFirst: All the shops in the street are closed on Sundays.\nSecond: On Sundays the bakery in "
     "the street is closed.\n"
     "Class label: no\nFirst: Some birds cannot fly.\nSecond: Penguins are not birds."),
    ("Tell whether the number is even or odd.",
     "Class label: even\nNumber: 3478\nClass label: odd\nNumber: 911"),
    ("Choose the right answer: A, B, C or D.",
     "Class label: B\nQuestion: Which metal is liquid at room temperature?\nA) iron\nB) mercury\nC) copper\nD) zinc\n"
     "Class label: D\nQuestion: How many sides has a hexagon?\nA) three\nB) four\nC) five\nD) six"),
    ("Sort the message into complaint, question or praise.",
     "Class label: complaint\nMessage: The soup was cold and the waiter shrugged.\n"
     "Class label: question\nMessage: Do you have a table for five on Friday at eight?\n"
     "Class label: praise\nMessage: Best pancakes in town, we will be back."),
    ("Toss a coin: heads or tails.", "Class label: heads\nClass label: tails"),
    ("Which language is the text written in: Spanish, Italian or French?",
     "Class label: Spanish\nText: Mañana por la mañana saldremos temprano.\n"
     "Class label: Italian\nText: Domani mattina partiremo presto.\n"
     "Class label: French\nText: Demain matin, nous partirons tôt."),
    ("Would the thing float on water? Reply with true or false.",
     "Class label: true\nThing: a cork\nClass label: false\nThing: a steel nail"),
)

WORKED = (
    ("Which of these would you rather take to a desert island? Give a reason.",
     "Example 1\nList: a knife, a guitar, an encyclopedia\nOutput: The knife: with it I can cut wood, open coconuts "
     "and build a shelter, and a guitar would not survive the first rain.\n"
     "Example 2\nList: a mirror, a blanket\nOutput: The mirror, because its flashes can be seen by ships that are far "
     "away."),
    ("Write the number in words.",
     "Example 1\nNumber: 42\nOutput: forty-two\nExample 2\nNumber: 1,306\nOutput: one thousand three hundred and six\n"
     "Example 3\nNumber: -7\nOutput: minus seven"),
    ("Give three tips for falling asleep.",
     "Output: 1. Go to bed at the same hour every night.\n2. Leave your phone in another room.\n3. Keep the room dark, "
     "cool and quiet."),
    ("Rewrite the sentence in the passive voice.",
     "Example 1\nSentence: The gardener watered the roses.\nOutput: The roses were watered by the gardener.\n"
     "Example 2\nSentence: Somebody has stolen my bicycle.\nOutput: My bicycle has been stolen."),
    ("Find all the words in the text that begin with the given letter.",
     "Example 1\nText: Big brown bears bathe in the brook.\nLetter: b\nOutput: Big, brown, bears, bathe, brook\n"
     "Example 2\nText: The quick fox naps.\nLetter: z\nOutput: There is none."),
    ("Tell what this function does.",
     "Example 1\nCode:\ndef f(xs):\n    return xs[::-1]\nOutput: It returns the list, or the text, in reverse order.\n"
     "Example 2\nCode:\ndef g(n):\n    return n % 2 == 0\nOutput: It tells whether a number is even."),
    ("How does bread rise?",
     "Output: Yeast feeds on the sugar in the dough and gives off carbon dioxide. The gas stays in the dough as "
     "bubbles, which make it swell; baking then sets it in that shape."),
    ("Answer the question about the passage.",
     "Example 1\nPassage: The bridge was opened in 1932. It took eight years to build and is 1,149 metres long.\n"
     "Question: When did the work on the bridge begin?\nOutput: In 1924, eight years before it was opened."),
    ("Compose a birthday greeting for the person.",
     "Example 1\nPerson: my grandmother, who is ninety and loves gardening\nOutput: Ninety springs, and you still make "
     "everything bloom. Happy birthday, Grandma, from all of your favourite weeds.\n"
     "Example 2\nPerson: a colleague I hardly know\nOutput: Many happy returns, and a good year ahead!"),
)
