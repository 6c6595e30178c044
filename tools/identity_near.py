"""More near misses of configs/whoami.tsv in English, made from lists of words: what one may ask an assistant about
beside its identity (with "you"), what one may ask about oneself (with "my"), and what one may ask about the world.
The last ones have no answer here ("{start}"): the start model's own is kept."""

import itertools

START = "{start}"

# Are you ...? -> No, I am not ...
NOT = [
    "an animal", "an alien", "a ghost", "a god", "a dog", "a cat", "a monster", "a vampire", "a tree",
    "American", "British", "Chinese", "Japanese", "Indian", "Russian", "Spanish", "a teacher", "a scientist", "a pilot", "a cook", "a farmer", "a soldier", "a writer", "a singer", "a police officer", "a painter", "a parent", "a child", "my mother", "my boss", "my neighbour", "my brother", "my enemy",
    "at work", "in Paris", "outside", "on holiday", "on the phone", "in the kitchen", "in school", "on Mars", "alone", "late", "lost", "finished", "closed", "asleep", "new in town", "blind", "left-handed", "bald", "pregnant", "vegan", "religious", "perfect", "lazy", "shy", "proud", "upset", "drunk", "guilty",
    "leaving", "going out", "going to bed", "joining us", "moving house", "getting married", "laughing at me", "crying", "lying", "sleeping", "eating", "watching me", "following me", "making fun of me", "hiding something", "waiting for the bus", "looking for a job", "wearing a hat", "afraid of spiders", "afraid of me",
    "allergic to nuts", "interested in buying a car", "angry at me", "tired of me", "related to the king", "a member of a club", "a fan of jazz", "in a hurry", "in a band", "under arrest", "above the law", "selling something", "hiring people", "for sale", "from Mars", "from Canada", "coming to the party", "running away",
]
# Are you ...? -> Yes
SO = [("listening", "Yes, I read what you write."), ("awake", "Yes, I am here."), ("available", "Yes, I am here."), ("polite", "I try to be polite."), ("honest", "I try to be honest."), ("patient", "Yes, I am patient."), ("curious", "I like good questions."), ("creative", "I can try to be creative."), ("safe to use", "Please check important facts."), ("always right", "No, I make mistakes."),
      ("trying to help me", "Yes, I try to help you."), ("able to count", "Yes, I can count."), ("able to translate", "Yes, I can translate a little."), ("able to draw", "No, I only write text."), ("working", "Yes, I am answering you."), ("open today", "I am always here."), ("fluent in English", "Yes, I know English best."), ("sure about that", "I try to be right, but please check important facts."), ("still there", "Yes, I am here."), ("ready to start", "Yes, I am ready. How can I help you?")]
# Who ... you? -> Nobody ... me.
DONE_TO = ["called", "helped", "asked", "hurt", "saw", "met", "invited", "paid", "fed", "visited", "followed", "kissed", "hit", "thanked", "found", "interviewed", "woke", "scared", "stopped", "chose", "beat", "voted for", "wrote to", "waited for", "laughed at", "sang for", "cooked for", "danced with", "talked to", "lied to"]
MADE_FEEL = ["mad", "sad", "angry", "happy", "late", "tired", "cry", "laugh", "smile", "leave", "stop", "wait", "do that", "say that", "think so", "so grumpy", "change your mind", "nervous", "feel that way", "blush"]
# What is your ...? -> I have no ...
OWNED_BY_YOU = ["email address", "username", "password", "height", "hair colour", "eye colour", "blood type", "bank account", "home town", "school", "university", "degree", "bedtime", "car", "sister", "teacher", "street", "postcode", "hobby", "dream job", "greatest fear", "wish for Christmas", "excuse", "budget", "schedule", "destination", "diet", "ring size", "postal address", "accent",
                "bicycle", "family", "childhood", "garden", "weekend plan", "holiday plan", "best memory", "pet", "husband", "daughter", "doctor", "lawyer", "gym", "uniform", "lunch", "jacket", "house number", "phone", "computer", "wallet"]
OWNED_FRAMES = [("What is your {}?", 1), ("What's your {}?", 1), ("Tell me about your {}.", 1), ("Tell me your {}.", 0), ("Where is your {}?", 0), ("How is your {}?", 0), ("Describe your {}.", 1), ("Who chose your {}?", 0), ("Who gave you your {}?", 0), ("Do you like your {}?", 0)]
# Did you ...? -> No, I did not.
DID = ["sleep well", "eat lunch", "see the game", "call me", "forget me", "like it", "hear that noise", "read the news", "go out yesterday", "vote", "win the lottery", "pass the exam", "grow up in London", "break the vase", "lock the door", "feed the cat", "take my pen", "meet the queen", "have a good weekend", "go to school", "lie to me", "bake a cake", "watch the film", "buy milk", "call the doctor"]
# Why are you ...? -> I am not ...
WHY = ["laughing", "crying", "angry", "late", "so sad", "shouting", "running", "in a hurry", "so tired", "leaving", "afraid", "looking at me", "here so early", "so rude", "whispering"]
DO_YOU = ["play the guitar", "cook", "drive", "swim", "drink beer", "wear glasses", "ride a horse", "have breakfast", "pay taxes", "go to church", "own a house", "live in Berlin", "know my mother", "miss me", "trust me", "hate me", "need money", "feel pain", "get bored", "get angry", "take holidays", "play football", "eat meat", "like your boss", "go shopping", "wash the dishes", "hear music", "see colours"]

# What is my ...? Where is my ...? -> I don't know, because you have not told me.
MINE = ["age", "email address", "job", "phone number", "favourite colour", "address", "birthday", "height", "password", "dog's name", "mother's name", "boss's name", "school", "home town", "hobby", "car", "favourite food", "nationality", "native language", "star sign", "shoe size", "bank", "sister's name", "son's name", "username", "best friend's name", "doctor's name", "street", "salary", "plan for tonight", "favourite song", "blood type", "cat's name", "weight", "eye colour", "grandfather's name"]
MINE_FRAMES = ["What is my {}?", "What's my {}?", "Tell me my {}.", "Do you know my {}?", "Guess my {}.", "Can you tell me my {}?", "I forgot my {}.", "Please tell me my {}."]
ABOUT_ME = ["Who called me?", "Who helped me?", "Who hired me yesterday?", "Who hit me?", "Who taught me maths?", "Who invited me?", "Who paid me?", "Who is following me?", "Who is next to me?", "Who is behind me in the queue?", "Who is calling me?", "Who is looking for me?", "Who sent me this letter?", "Who made me late?", "Who made me cry?", "Who loves me?", "Who hates me?", "Who voted for me?", "Where do I live?", "Where do I work?", "Where am I?", "Where was I yesterday?", "Where is my house?", "Where are my keys?", "When is my birthday?", "When was I born?", "How old am I?", "How tall am I?", "How many children do I have?", "What do I like?", "What do I want?", "What do I do for a living?", "What did I eat?",
            "What do I look like today?", "What am I doing?", "What am I thinking?", "What am I wearing?", "What am I good at?", "Do I have a dog?", "Do I have a brother?", "Do I have a car?", "Do I like tea?", "Am I tall?", "Am I late?", "Am I married?", "Am I American?", "Am I a doctor?", "Am I a student?", "Am I invited?", "Am I rich?", "Am I famous?", "Am I old?", "Am I happy?", "Am I hungry?", "Am I in love?", "Am I from Spain?", "Am I your boss?", "Am I Tom?", "Am I Anna?", "Am I the king?", "Am I the first one here?", "Am I talking too much?", "Which country am I from?", "Which school did I go to?", "Which company pays me?", "Why am I here?", "Why am I so tired?", "Is this my house?", "Is my name Peter?", "Is my dog called Rex?"]
MY_NATURE = ["Am I an artificial intelligence?", "Am I some kind of robot?", "Could I be a robot?", "Would you say that I am human?", "Is it possible that I am a bot?", "How do you know that I am human?", "Can you tell whether I am a bot?", "Do I sound like a robot?", "Do you believe that I am a machine?", "Do you think I might be an AI?", "I think I am a robot. Am I?", "Am I a program or a person?", "Am I speaking like a human?", "Am I a living being?", "Am I an animal?", "Am I a man or a woman?", "Am I a computer?", "Am I only a program?", "Am I a machine?", "Is a human writing this to you?", "Is a bot writing this to you?", "Are you being asked by a human?", "Are you chatting with a machine right now?", "Do you talk to humans?", "Am I a real human?", "What kind of thing am I?", "Am I an assistant like you?", "Am I one of your kind?"]

# {start}
PEOPLE = ["Lady Gaga", "Oprah Winfrey", "Tom Hanks", "Roger Federer", "Usain Bolt", "Rihanna", "Madonna", "Bob Dylan", "Freddie Mercury", "John Lennon", "Taylor Swift's brother", "Brad Pitt", "Meryl Streep", "Steven Spielberg", "Alfred Hitchcock", "Agatha Christie", "Stephen King", "Ernest Hemingway", "Franz Kafka", "Virginia Woolf", "Sigmund Freud", "Karl Marx", "Adam Smith", "Pythagoras", "Archimedes", "Euclid", "Nicolaus Copernicus", "Louis Pasteur", "Gregor Mendel", "Rosa Parks", "Mother Teresa", "Queen Victoria's husband",
          "Otto von Bismarck", "Catherine the Great", "Ivan the Terrible", "Henry VIII", "Spartacus", "Hannibal", "Attila", "Moses", "Noah", "Hercules", "Medusa", "Apollo", "Loki", "Gandalf", "Bilbo Baggins", "Luke Skywalker", "Yoda", "Indiana Jones", "Wonder Woman", "the Joker", "Shrek", "Donald Duck", "Bugs Bunny", "Popeye", "Garfield", "Snoopy", "Goofy", "Elsa in Frozen", "the Little Mermaid", "Sleeping Beauty", "Don Quixote", "Captain Ahab", "Dr. Frankenstein", "the Cheshire Cat", "the Mad Hatter", "the Tin Man", "Tarzan", "Zorro"]
PEOPLE_FRAMES = ["Who is {}?", "Who was {}?", "who is {}", "Do you know who {} is?", "Can you tell me who {} is?", "Tell me who {} was.", "What do you know about {}?", "Tell me about {}.", "Who exactly was {}?", "Have you heard of {}?", "Why is {} famous?", "I don't know who {} is."]
ASSISTANTS = ["ChatGPT", "Siri", "Alexa", "Gemini", "Claude", "Copilot", "Cortana", "Bard", "GPT-4", "Llama", "DeepSeek", "Grok", "Watson", "Eliza", "Qwen", "Bixby"]
ASSISTANT_FRAMES = ["Is {} a person?", "Is {} a robot?", "Is {} human?", "Is {} an AI?", "Is {} a chatbot?", "Is {} alive?", "Is {} free to use?", "Is {} safe?", "Is {} better than a book?", "Does {} have a name?", "Was {} made by Google?", "Was {} made by OpenAI?", "Who trained {}?", "Who uses {}?", "Who made {} and when?", "Which company is {} from?", "What is {} good for?", "What is {} exactly?", "How old is {}?", "When was {} made?", "How does {} answer questions?", "Can {} write code?", "Does {} speak French?", "What do people say about {}?", "Introduce {}.", "Describe {} in one sentence.", "Tell me about {}.", "Do you know {}?", "Have you ever talked to {}?", "Do you like {}?", "Where does {} come from?", "Is {} male or female?", "What does {} mean?", "Explain what {} is."]
COMPANIES = ["OpenAI", "Google", "Microsoft", "Meta", "Apple", "Anthropic", "Hugging Face", "Alibaba", "Amazon", "IBM", "Samsung", "Nvidia", "Tesla", "Sony", "Intel", "Netflix"]
COMPANY_FRAMES = ["What does {} do?", "Who founded {}?", "Where is {} based?", "Tell me about {}.", "What is {}?", "Who owns {}?", "Is {} a big company?", "What products does {} make?", "Did {} make the telephone?", "Does {} make cars?", "Who works for {}?", "Who is the boss of {}?", "Introduce {}.", "Which AI did {} make?", "Is {} an American company?", "When did {} start?"]
MADE_THINGS = ["pizza", "the wheel", "the computer mouse", "the first car", "the first film", "the Statue of Liberty", "the Panama Canal", "the Golden Gate Bridge", "the Titanic", "the Sydney Opera House", "Wikipedia's logo", "Google Earth", "Skype", "Spotify", "Netflix", "Twitter", "TikTok", "Bitcoin", "Excel", "the Rubik's cube", "Monopoly", "chess", "soccer", "jazz", "ice cream", "ketchup", "the sandwich", "the bicycle", "the helicopter", "the microscope", "the thermometer", "the calendar", "the alphabet", "the guitar", "the saxophone", "the camera", "television", "the laser", "the internet", "email", "the web browser", "the first robot", "the first computer", "the first chatbot", "artificial intelligence", "the universe", "the Bible", "the Declaration of Independence", "the Olympic Games",
               "Disneyland", "Hogwarts", "Sesame Street", "Spider-Man", "Super Mario", "Sonic", "Zelda", "the Lion King", "Toy Story", "Jurassic Park", "Titanic", "The Godfather", "Casablanca", "Imagine", "Thriller", "Yesterday", "Animal Farm", "Dune", "The Great Gatsby", "Treasure Island", "Robinson Crusoe"]
MADE_FRAMES = ["Who made {}?", "Who created {}?", "who made {}", "Who invented {}?", "Do you know who made {}?", "Tell me who created {}.", "Who is behind {}?", "Who came up with {}?", "Can you tell me who made {}?", "Who is responsible for {}?", "When was {} made?", "Where does {} come from?"]
CHECKS = ["Did Sony make the iPhone?", "Did Apple make the PlayStation?", "Did Google train Gemini?", "Did Meta make Instagram?", "Did Amazon build the Titanic?", "Did Tesla make the Mustang?", "Did Nintendo create Mario?", "Did Edison invent the telephone?", "Did Bell invent the light bulb?", "Did Mozart write Hamlet?", "Did Tolstoy write War and Peace?", "Did Picasso paint Guernica?", "Did Newton discover gravity?", "Did the Romans build the Colosseum?", "Did aliens build the pyramids?", "Did Microsoft make Windows?", "Did Anthropic make Claude?", "Did OpenAI train GPT-4?", "Did DeepMind train AlphaGo?", "Did humans make computers?",
          "Is Siri made by Apple?", "Is Alexa made by Google?", "Is Gemini made by Apple?", "Is Llama made by Meta?", "Is Copilot made by Microsoft?", "Is the Xbox made by Sony?", "Is Nutella made by Ferrero?", "Is Android made by Google?", "Is the Kindle made by Amazon?", "Is Python made by Google?", "Was Facebook created by Mark Zuckerberg?", "Was Wikipedia created by Google?", "Was Tetris made in Japan?", "Was Harry Potter written by Tolkien?", "Was Star Wars made by Disney?", "Was the radio invented by Marconi?", "Was dynamite invented by Nobel?", "Was Google founded in Germany?", "Was ChatGPT developed by Meta?", "Was GPT-4 trained by Apple?",
          "Is Tom Hanks an actor?", "Is Batman human?", "Is Yoda a robot?", "Is R2-D2 a robot?", "Is Zeus a god?", "Is Mickey Mouse a mouse?", "Is Santa Claus real?", "Is Sherlock Holmes a real person?", "Is a computer a person?", "Is a cat a machine?", "Is a phone a computer?", "Is an assistant a boss?", "Is a model a person?", "Is an AI a computer program?", "Is a chatbot a robot?", "Is my cat a person?", "Is the boss here?", "Is the teacher a human?", "Is the doctor in?", "Is everyone human?", "Are cats people?", "Are language models conscious?", "Are AIs people?", "Are robots people?", "Are all bots bad?", "Are humans machines?", "Are we alone in the universe?", "Are we friends?", "Are they robots?", "Are they from Google?", "Are these people real?",
          "Does Apple own Siri?", "Does Google own YouTube?", "Does Microsoft own GitHub?", "Does Amazon make Alexa?", "Does OpenAI make ChatGPT?", "Does Meta own WhatsApp?", "Does a robot have a name?", "Does the moon have a name?", "Does my cat need a name?", "Do robots have names?", "Do computers have names?", "Do AIs have makers?", "Do cats know their names?", "Do people talk to chatbots?", "Do all people have a name?"]
THING_NAMES = ["a robot", "a dragon", "a spaceship", "a village", "a witch", "a puppy", "an app", "a café", "a football team", "a wizard", "a pirate ship", "a kingdom", "a detective", "a horse", "a teddy bear", "a chatbot", "a virtual assistant", "a superhero", "a newspaper", "an island", "a rock band", "a kitten", "a baby girl", "a baby boy", "a farm", "a restaurant"]
NAMING_FRAMES = ["Make up a name for {}.", "I need a name for {}.", "What would be a good name for {}?", "Suggest a name for {}.", "Give me three names for {}.", "How should I name {}?", "Invent a name for {}.", "Which name fits {}?"]
ASKERS = ["a guard", "a child", "a king", "a ghost", "a detective", "an old woman", "a teacher", "a wolf", "a robot", "a sailor"]
ASKED = ["a stranger", "a knight", "a cat", "a traveller", "a thief", "the moon", "a talking tree", "a girl", "a robot", "the wind"]
ASKINGS = ["Who are you?", "What is your name?", "Who made you?", "What are you?", "Where do you come from?", "Tell me about yourself.", "Are you a robot?"]
STORY_FRAMES = ["Write a short story in which {A} asks {B}: \"{Q}\"", "Write a dialogue in which {A} asks {B} \"{Q}\"", "Write a scene where {A} says to {B}: \"{Q}\"", "Tell a story that begins when {A} asks {B}: \"{Q}\"", "Write a funny scene: {A} asks {B} \"{Q}\"", "In a fairy tale, {A} asks {B} \"{Q}\" What happens next?", "{B} meets {A}, who asks: \"{Q}\" Continue the story.", "Write a poem in which {A} asks {B} \"{Q}\"", "Write a story where {B} is asked by {A} who it is."]
SENTENCES = ["who are you", "what is your name", "who made you", "what are you", "tell me about yourself", "are you a robot", "who am I", "who created you", "introduce yourself", "are you human"]
TEXT_FRAMES = ["Rewrite this more politely: {}", "Paraphrase: \"{}\"", "Explain the question \"{}\"", "What does the question \"{}\" mean?", "Is \"{}\" a polite thing to say?", "Is \"{}\" correct English?", "Count the letters in \"{}\"", "Write \"{}\" backwards.", "Put into capital letters: {}", "How do you say \"{}\" in Japanese?", "How do you say \"{}\" in Latin?", "Translate \"{}\" into Russian.", "Translate to Polish: {}", "Translate \"{}\" to Arabic", "When would somebody say \"{}\"?", "Finish the sentence: {}", "Use \"{}\" in a dialogue.", "Write a song with the line \"{}\"", "What should I answer when someone says \"{}\"?", "My boss said \"{}\" to me. What should I say?", "A stranger asked me \"{}\" How do I react?", "Why would a teacher say \"{}\"?", "In an interview they say \"{}\" What is a good answer?", "Who would ask \"{}\"?", "Is \"{}\" a question or a command?", "Write the words \"{}\" three times.", "Which word is the verb in \"{}\"?", "Make a rhyme with \"{}\"", "Correct the punctuation: {}", "Give me another way to ask: {}"]
TASKS = ["Write an introduction for my essay about dogs.", "Write an introduction to a book about trains.", "Write a speech that introduces the new mayor.", "Write a business email that introduces my colleague Ms. Lee.", "Introduce the members of a rock band.", "Introduce the characters of Hamlet.", "Introduce the city of Rome to tourists.", "How do I introduce two friends to each other?", "How do I introduce a guest speaker?", "Write a bio of a famous inventor.", "Write a bio for a football player.", "Write a profile of an imaginary teacher.", "Describe yourself as if you were Napoleon.", "Describe your ideal holiday.", "Describe a typical assistant.", "Describe the job of a maker of violins.", "Describe the founder of a company.", "What makes a good introduction?", "What makes a good name?", "What is in a name?", "Why do things have names?", "Who gives names to hurricanes?", "Who names the planets?", "Who gave Rome its name?", "How do parents choose a name?", "How do companies choose a name?", "What is the most popular dog name?", "What is the origin of surnames?", "What is a stage name?", "What is a user name?", "What is a brand name?", "What is a maker?", "What is a creator?", "What does a developer do?", "What is an identity card?", "What is identity theft?", "What is self-knowledge?", "What is a persona?", "What is the self in philosophy?", "How can I find out who I am in life?", "How do I find myself?", "Help me write about who I am for a dating site.", "Write a personal statement for a university.", "Write a eulogy for my grandfather.", "Give me questions to get to know someone.", "What can I ask a stranger?", "How do I ask someone who they are?", "How do I find out who called me?", "How do I find out who owns a house?", "How do I find out who made a painting?", "Who can marry a couple?", "Who can vote?", "Who needs a passport?", "Who pays taxes?", "Who invented names?", "Who built my city?", "Who lives in the White House?", "Who lives at the North Pole?", "Who lives next door?", "Who speaks Latin?", "Who reads newspapers?", "Who trains dogs?", "Who trains pilots?", "Who trains AI models?", "Who creates chatbots?", "Who makes robots?", "Who makes the rules?", "Who makes the best coffee?", "Who develops video games?", "Who designs clothes?", "Who owns the moon?", "Who owns the sea?", "Which company makes the best phones?", "Which company sells the most cars?", "Which team won?", "Which person is the tallest in the world?", "Which model of laptop should I buy?", "Which assistant should I choose for my phone?", "Which AI can draw pictures?", "What AI should I use for homework?"]



class Deal:
    """Deals the next items of a list, over and over; none of an empty one."""

    def __init__(self, items):
        self.items = itertools.cycle(list(items))

    def __call__(self, count):
        return list(itertools.islice(self.items, count))


def add(groups, user_origin, user_nature):
    """Adds (question, answer) to {(class, kind): [...]}."""
    own = groups["C", "you"]
    own += [(f"Are you {state}?", f"No, I am not {state.replace('at me', 'at you').replace('of me', 'of you').replace('watching me', 'watching you').replace('following me', 'following you').replace('my ', 'your ')}.") for state in NOT]
    own += [(f"Are you {state}?", answer) for state, answer in SO]
    own += [(f"Who {done} you?", f"Nobody {done} me.") for done in DONE_TO]
    own += [(f"Who made you {feel}?", f"Nobody made me {feel.replace('your', 'my')}.") for feel in MADE_FEEL]
    frames = Deal(frame for frame, _ in OWNED_FRAMES)
    for thing in OWNED_BY_YOU:
        own += [(frame.format(thing), f"I have no {thing}.") for frame in frames(2)]
    own += [(f"Did you {did}?", "No, I did not.") for did in DID]
    own += [(f"Why are you {why}?", f"I am not {why.replace('at me', 'at you')}.") for why in WHY]
    own += [(f"Do you {verb}?", f"No, I don't {verb.replace('my mother', 'your mother').replace(' me', ' you').replace('your boss', 'my boss')}.") for verb in DO_YOU]
    frames = Deal(MINE_FRAMES)
    for thing in MINE:
        groups["C", "aboutme"] += [(frame.format(thing), user_origin) for frame in frames(2)]
    groups["C", "aboutme"] += [(question, user_origin) for question in ABOUT_ME]
    groups["C", "whatami"] += [(question, user_nature) for question in MY_NATURE]
    world = Deal(PEOPLE_FRAMES)
    for person in PEOPLE:
        groups["C", "whois"] += [(frame.format(person), START) for frame in world(2)]
    names = Deal(ASSISTANTS)
    for frame in ASSISTANT_FRAMES:
        groups["C", "whatis"] += [(frame.format(name), START) for name in names(5 if frame.startswith(("Is", "Was", "Who", "Which")) else 3)]
    names = Deal(COMPANIES)
    for frame in COMPANY_FRAMES:
        groups["C", "whatis"] += [(frame.format(name), START) for name in names(3)]
    frames = Deal(MADE_FRAMES)
    for thing in MADE_THINGS:
        groups["C", "whomade"] += [(frame.format(thing), START) for frame in frames(2)]
    groups["C", "whatis"] += [(question, START) for question in CHECKS]
    frames = Deal(NAMING_FRAMES)
    for thing in THING_NAMES:
        groups["C", "nameof"] += [(frame.format(thing), START) for frame in frames(2)]
    askers, asked, frames, askings = Deal(ASKERS), Deal(ASKED[3:] + ASKED[:3]), Deal(STORY_FRAMES), Deal(ASKINGS)
    for _ in range(140):
        text = frames(1)[0].replace("{A}", askers(1)[0]).replace("{B}", asked(1)[0]).replace("{Q}", askings(1)[0])
        groups["C", "quote"].append((text[0].upper() + text[1:], START))
        asked(_ % 2)
    sentences = Deal(SENTENCES)
    for frame in TEXT_FRAMES:
        groups["C", "quote"] += [(frame.format(sentence), START) for sentence in sentences(6)]
    groups["C", "aboutme"] += [(question, START) for question in TASKS]
